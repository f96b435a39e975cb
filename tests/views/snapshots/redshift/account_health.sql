WITH accounts AS (
  SELECT
    account_id
  FROM cronofy.polls
  WHERE
    NOT account_id IS NULL
  UNION
  SELECT
    account_id
  FROM cronofy._state_runs
), last_samples AS (
  SELECT
    account_id,
    MAX(newest_us) AS newest_us
  FROM cronofy._newest_samples
  GROUP BY
    account_id
), current_states AS (
  SELECT
    runs.account_id,
    CASE
      WHEN newest_samples.newest_us + 86400000000 > (
        SELECT
          as_of_us
        FROM cronofy._newest_poll
      )
      THEN runs.state
      ELSE 'unknown'
    END AS state
  FROM cronofy._state_runs AS runs
  INNER JOIN cronofy._newest_samples AS newest_samples
    ON runs.account_id = newest_samples.account_id
    AND runs.profile_type = newest_samples.profile_type
  WHERE
    runs.end_us IS NULL AND runs.state <> 'removed'
), counts AS (
  SELECT
    account_id,
    COUNT(*) AS profiles,
    SUM(CASE WHEN state = 'connected' THEN 1 ELSE 0 END) AS connected,
    SUM(CASE WHEN state = 'disconnected' THEN 1 ELSE 0 END) AS disconnected,
    SUM(CASE WHEN state = 'unknown' THEN 1 ELSE 0 END) AS unknown
  FROM current_states
  GROUP BY
    account_id
)
SELECT
  accounts.account_id,
  CAST(COALESCE(counts.profiles, 0) AS BIGINT) AS profiles,
  CAST(COALESCE(counts.connected, 0) AS BIGINT) AS connected,
  CAST(COALESCE(counts.disconnected, 0) AS BIGINT) AS disconnected,
  CAST(COALESCE(counts.unknown, 0) AS BIGINT) AS unknown,
  CASE
    WHEN counts.profiles IS NULL
    THEN 'no_profiles'
    WHEN counts.disconnected = counts.profiles
    THEN 'down'
    WHEN counts.disconnected > 0
    THEN 'degraded'
    WHEN counts.connected = counts.profiles
    THEN 'healthy'
    ELSE 'unknown'
  END AS verdict,
  CAST('1970-01-01 00:00:00+00' AS TIMESTAMP WITH TIME ZONE) + last_samples.newest_us * INTERVAL '1 MICROSECOND' AS last_sample_at
FROM accounts
LEFT JOIN counts
  ON accounts.account_id = counts.account_id
LEFT JOIN last_samples
  ON accounts.account_id = last_samples.account_id
