WITH open_outages AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    first_seen_us,
    newest_us,
    duration_us
  FROM `my-project`.cronofy._outages
  WHERE
    end_reason = 'open'
), owners AS (
  SELECT
    account_id,
    token_key,
    email,
    name,
    observed_at
  FROM `my-project`.cronofy.userinfo
  UNION ALL
  SELECT
    account_id,
    token_key,
    email,
    name,
    observed_at
  FROM `my-project`.cronofy.account
  UNION ALL
  SELECT
    account_id,
    token_key,
    CAST(NULL AS STRING) AS email,
    CAST(NULL AS STRING) AS name,
    observed_at
  FROM `my-project`.cronofy.profile_changes
), ranked AS (
  SELECT
    account_id,
    token_key,
    email,
    name,
    ROW_NUMBER() OVER (
      PARTITION BY account_id
      ORDER BY CASE WHEN email IS NULL THEN 1 ELSE 0 END, observed_at DESC, email
    ) AS email_rank,
    ROW_NUMBER() OVER (
      PARTITION BY account_id
      ORDER BY CASE WHEN name IS NULL THEN 1 ELSE 0 END, observed_at DESC, name
    ) AS name_rank
  FROM owners
  WHERE
    account_id IN (
      SELECT
        account_id
      FROM open_outages
    )
), contacts AS (
  SELECT
    account_id,
    MAX(CASE WHEN email_rank = 1 THEN email END) AS email,
    MAX(CASE WHEN name_rank = 1 THEN name END) AS name
  FROM ranked
  GROUP BY
    account_id
), tokens AS (
  SELECT DISTINCT
    account_id,
    token_key
  FROM ranked
  WHERE
    NOT token_key IS NULL
), token_lists AS (
  SELECT
    account_id,
    STRING_AGG(token_key, ','
    ORDER BY
      token_key) AS token_keys
  FROM tokens
  GROUP BY
    account_id
)
SELECT
  outages.account_id,
  contacts.email,
  contacts.name,
  token_lists.token_keys,
  outages.profile_type,
  outages.profile_id,
  names.profile_name,
  names.provider_name,
  names.provider_service,
  names.relink_url,
  TIMESTAMP_MICROS(outages.first_seen_us) AS first_seen_at,
  TIMESTAMP_MICROS(outages.newest_us) AS last_seen_at,
  CAST(outages.duration_us AS FLOAT64) / 86400000000 AS days_down,
  CAST((
    SELECT
      as_of_us
    FROM `my-project`.cronofy._newest_poll
  ) - outages.newest_us AS FLOAT64) / 1000000 AS evidence_age_seconds
FROM open_outages AS outages
INNER JOIN `my-project`.cronofy._profile_names AS names
  ON outages.account_id = names.account_id
  AND outages.profile_type = names.profile_type
  AND outages.profile_id = names.profile_id
LEFT JOIN contacts
  ON outages.account_id = contacts.account_id
LEFT JOIN token_lists
  ON outages.account_id = token_lists.account_id
