WITH open_runs AS (
  SELECT
    *
  FROM `my-project`.cronofy._state_runs
  WHERE
    state = 'disconnected' AND ended_at IS NULL
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
    CAST(token_key AS STRING) AS token_key,
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
      FROM open_runs
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
  account_id,
  email,
  name,
  token_keys,
  profile_type,
  profile_id,
  profile_name,
  provider,
  provider_name,
  provider_service,
  relink_url,
  first_sample_at AS first_seen_at,
  last_sample_at AS last_seen_at,
  (
    TIMESTAMP_DIFF(last_sample_at, first_sample_at, MICROSECOND) / 1000000
  ) / 86400 AS days_down,
  (
    TIMESTAMP_DIFF(
      (
        SELECT
          as_of
        FROM `my-project`.cronofy._as_of
      ),
      last_sample_at,
      MICROSECOND
    ) / 1000000
  ) AS evidence_age_seconds
FROM open_runs
INNER JOIN contacts
  USING (account_id)
LEFT JOIN token_lists
  USING (account_id)
