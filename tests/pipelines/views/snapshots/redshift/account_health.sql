WITH accounts AS (
  SELECT
    account_id
  FROM cronofy.token_status
  WHERE
    NOT account_id IS NULL
  UNION
  SELECT
    account_id
  FROM cronofy.coverage
  UNION
  SELECT
    account_id
  FROM cronofy._state_runs
), newest_samples AS (
  SELECT
    account_id,
    MAX(last_sample_at) AS last_sample_at
  FROM cronofy.coverage
  GROUP BY
    account_id
), current_states AS (
  SELECT
    account_id,
    CASE
      WHEN last_sample_at + INTERVAL '86400 SECOND' > (
        SELECT
          as_of
        FROM cronofy._as_of
      )
      THEN state
      ELSE 'unknown'
    END AS state
  FROM cronofy._state_runs
  WHERE
    ended_at IS NULL AND state <> 'removed'
), counts AS (
  SELECT
    account_id,
    COUNT(state) AS profiles,
    COUNT(CASE state WHEN 'connected' THEN 1 END) AS connected,
    COUNT(CASE state WHEN 'disconnected' THEN 1 END) AS disconnected,
    COUNT(CASE state WHEN 'unknown' THEN 1 END) AS unknown
  FROM accounts
  LEFT JOIN current_states
    USING (account_id)
  GROUP BY
    account_id
)
SELECT
  account_id,
  profiles,
  connected,
  disconnected,
  unknown,
  CASE
    WHEN profiles = 0
    THEN 'no_profiles'
    WHEN disconnected = profiles
    THEN 'down'
    WHEN disconnected > 0
    THEN 'degraded'
    WHEN connected = profiles
    THEN 'healthy'
    ELSE 'unknown'
  END AS verdict,
  last_sample_at
FROM counts
LEFT JOIN newest_samples
  USING (account_id)
