SELECT
  account_id,
  profile_type,
  profile_id,
  provider,
  provider_name,
  provider_service,
  started_after,
  first_sample_at AS first_seen_at,
  last_sample_at AS last_seen_at,
  ended_at,
  CASE next_state
    WHEN 'connected'
    THEN 'relinked'
    WHEN 'removed'
    THEN 'removed'
    ELSE 'open'
  END AS end_reason,
  (
    DATEDIFF(MICROSECOND, first_sample_at AT TIME ZONE 'UTC', last_sample_at AT TIME ZONE 'UTC') / CAST(1000000 AS DOUBLE PRECISION)
  ) AS min_seconds,
  (
    DATEDIFF(MICROSECOND, started_after AT TIME ZONE 'UTC', ended_at AT TIME ZONE 'UTC') / CAST(1000000 AS DOUBLE PRECISION)
  ) AS max_seconds,
  (
    DATEDIFF(
      MICROSECOND,
      first_sample_at AT TIME ZONE 'UTC',
      COALESCE(ended_at, last_sample_at) AT TIME ZONE 'UTC'
    ) / CAST(1000000 AS DOUBLE PRECISION)
  ) AS seconds,
  CASE WHEN ended_at IS NULL THEN relink_url END AS relink_url
FROM cronofy._state_runs
WHERE
  state = 'disconnected'
