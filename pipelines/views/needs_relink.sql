-- needs_relink: one row per open outage: who has to relink what.
-- An outage stays open until a sample says otherwise, however old the evidence is; see evidence_age_seconds.
--
-- account_id
-- email, name: newest known of the account, from userinfo and account
-- token_keys: the account's tokens, sorted, separated by commas
-- profile_type, profile_id
-- profile_name: newest known
-- provider
-- provider_name, provider_service, relink_url: newest known
-- first_seen_at, last_seen_at: first and newest sample of the outage
-- days_down: days from first_seen_at to last_seen_at, the time it was certainly down
-- evidence_age_seconds: from last_seen_at to as_of, the newest polled_at
WITH open_runs AS (
    SELECT * FROM _state_runs WHERE state = 'disconnected' AND ended_at IS NULL
),
owners AS (
    SELECT account_id, token_key, email, name, observed_at FROM userinfo
    UNION ALL
    SELECT account_id, token_key, email, name, observed_at FROM account
    UNION ALL
    SELECT account_id, token_key, NULL AS email, NULL AS name, observed_at FROM profile_changes
),
ranked AS (
    SELECT
        account_id, token_key, email, name,
        row_number() OVER (
            PARTITION BY account_id
            ORDER BY CASE WHEN email IS NULL THEN 1 ELSE 0 END, observed_at DESC, email COLLATE "C"
        ) AS email_rank,
        row_number() OVER (
            PARTITION BY account_id
            ORDER BY CASE WHEN name IS NULL THEN 1 ELSE 0 END, observed_at DESC, name COLLATE "C"
        ) AS name_rank
    FROM owners
    WHERE account_id IN (SELECT account_id FROM open_runs)
),
contacts AS (
    SELECT
        account_id,
        max(CASE WHEN email_rank = 1 THEN email END) AS email,
        max(CASE WHEN name_rank = 1 THEN name END) AS name
    FROM ranked
    GROUP BY account_id
),
tokens AS (
    SELECT DISTINCT account_id, token_key FROM ranked WHERE token_key IS NOT NULL
),
token_lists AS (
    SELECT account_id, string_agg(token_key, ',' ORDER BY token_key COLLATE "C") AS token_keys
    FROM tokens
    GROUP BY account_id
)
SELECT
    account_id, email, name, token_keys,
    profile_type, profile_id, profile_name, provider, provider_name, provider_service, relink_url,
    first_sample_at AS first_seen_at,
    last_sample_at AS last_seen_at,
    epoch(last_sample_at - first_sample_at) / 86400 AS days_down,
    epoch(as_of - last_sample_at) AS evidence_age_seconds
FROM open_runs
INNER JOIN contacts USING (account_id)
LEFT JOIN token_lists USING (account_id)
CROSS JOIN _as_of
