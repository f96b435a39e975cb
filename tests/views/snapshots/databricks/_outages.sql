WITH runs AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    CASE WHEN state = 'disconnected' THEN start_us END AS first_seen_us,
    CASE WHEN NOT previous_state IS NULL THEN start_us END AS broken_us,
    end_us,
    LEAD(state) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY start_us) AS next_state
  FROM main.cronofy._state_runs
)
SELECT
  runs.account_id,
  runs.profile_type,
  runs.profile_id,
  runs.first_seen_us,
  runs.broken_us,
  runs.end_us AS ended_us,
  CASE runs.next_state
    WHEN 'connected'
    THEN 'relinked'
    WHEN 'removed'
    THEN 'removed'
    ELSE 'open'
  END AS end_reason,
  newest_samples.newest_us,
  COALESCE(runs.end_us, newest_samples.newest_us) - runs.first_seen_us AS duration_us
FROM runs
INNER JOIN main.cronofy._newest_samples AS newest_samples
  ON runs.account_id = newest_samples.account_id
  AND runs.profile_type = newest_samples.profile_type
WHERE
  NOT runs.first_seen_us IS NULL
