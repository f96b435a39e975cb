-- _accounts: one row per account: whose it is, and whether the token store still has it.
-- The store's word counts as long as it has a token of the account; of an account that left, its former tokens tell
-- who it was. Of e-mail, name and type the newest value that is not null counts.
--
-- account_id, customer, email, email_domain, name
-- account_type: account, service_account, or what Cronofy says
-- may_write: 1 where the scope of one of its present tokens asks for calendars that can be written, else 0
-- token_keys: its present tokens, sorted, separated by commas; of an account that left, its former ones
-- is_present: whether the store has one of its tokens
-- standing: present, not_connected (the store has it, without a token) or left
-- left_at: when the store lost the last of its tokens; null unless it left
WITH tokens AS (
    SELECT
        token_key, account_id, customer, left_at,
        left_at IS NULL AND coalesce(has_token, TRUE) AS is_present
    FROM token_status
    WHERE account_id IS NOT NULL
),
standings AS (
    SELECT
        account_id,
        count(CASE WHEN is_present THEN 1 END) > 0 AS is_present,
        CASE
            WHEN count(CASE WHEN is_present THEN 1 END) > 0 THEN 'present'
            WHEN count(CASE WHEN left_at IS NULL THEN 1 END) > 0 THEN 'not_connected'
            ELSE 'left'
        END AS standing,
        max(left_at) AS newest_left_at
    FROM tokens
    GROUP BY account_id
),
-- those that speak for the account
speakers AS (
    SELECT tokens.*
    FROM tokens
    INNER JOIN standings USING (account_id)
    WHERE tokens.is_present OR NOT standings.is_present
),
labels AS (
    SELECT
        account_id,
        min(customer COLLATE "C") AS customer,
        string_agg(token_key, ',' ORDER BY token_key COLLATE "C") AS token_keys
    FROM speakers
    GROUP BY account_id
),
described AS (
    SELECT account_id, token_key, email, name, type, scope, observed_at FROM userinfo
    UNION ALL
    SELECT account_id, token_key, email, name, type, scope, observed_at FROM account
),
ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY account_id
            ORDER BY CASE WHEN email IS NULL THEN 1 ELSE 0 END, observed_at DESC, email COLLATE "C"
        ) AS email_rank,
        row_number() OVER (
            PARTITION BY account_id
            ORDER BY CASE WHEN name IS NULL THEN 1 ELSE 0 END, observed_at DESC, name COLLATE "C"
        ) AS name_rank,
        row_number() OVER (
            PARTITION BY account_id
            ORDER BY CASE WHEN type IS NULL THEN 1 ELSE 0 END, observed_at DESC, type COLLATE "C"
        ) AS type_rank
    FROM described
),
owners AS (
    SELECT
        account_id,
        max(CASE WHEN email_rank = 1 THEN email END) AS email,
        max(CASE WHEN name_rank = 1 THEN name END) AS name,
        max(CASE WHEN type_rank = 1 THEN type END) AS account_type
    FROM ranked
    GROUP BY account_id
),
present_scopes AS (
    SELECT
        described.account_id,
        max(
            CASE
                WHEN ' ' || scope || ' ' LIKE '% read_write %' THEN 1
                WHEN ' ' || scope || ' ' LIKE '% create_event %' THEN 1
                WHEN ' ' || scope || ' ' LIKE '% delete_event %' THEN 1
                ELSE 0
            END
        ) AS may_write
    FROM described
    INNER JOIN tokens ON described.token_key = tokens.token_key AND tokens.is_present
    GROUP BY described.account_id
),
listed AS (
    SELECT DISTINCT account_id
    FROM (
        SELECT account_id FROM standings
        UNION ALL
        SELECT account_id FROM coverage
        UNION ALL
        SELECT account_id FROM profile_changes WHERE account_id IS NOT NULL
    ) AS known
)
SELECT
    account_id, customer, email,
    CASE WHEN email LIKE '%@%' THEN lower(regexp_replace(email, '.*@', '')) END AS email_domain,
    name, account_type, token_keys,
    coalesce(may_write, 0) AS may_write,
    coalesce(is_present, TRUE) AS is_present,
    coalesce(standing, 'present') AS standing,
    CASE WHEN standing = 'left' THEN newest_left_at END AS left_at
FROM listed
LEFT JOIN standings USING (account_id)
LEFT JOIN labels USING (account_id)
LEFT JOIN owners USING (account_id)
LEFT JOIN present_scopes USING (account_id)
