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
    DATEDIFF(MICROSECOND, first_sample_at, last_sample_at) / CAST(1000000 AS DOUBLE)
  ) AS min_seconds,
  (
    DATEDIFF(MICROSECOND, started_after, ended_at) / CAST(1000000 AS DOUBLE)
  ) AS max_seconds,
  (
    DATEDIFF(MICROSECOND, first_sample_at, COALESCE(ended_at, last_sample_at)) / CAST(1000000 AS DOUBLE)
  ) AS seconds,
  CASE WHEN ended_at IS NULL THEN relink_url END AS relink_url
FROM analytics.cronofy._state_runs
WHERE
  state = 'disconnected'
