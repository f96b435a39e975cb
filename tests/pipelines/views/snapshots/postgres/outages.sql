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
  CAST(EXTRACT(EPOCH FROM last_sample_at - first_sample_at) AS DOUBLE PRECISION) AS min_seconds,
  CAST(EXTRACT(EPOCH FROM ended_at - started_after) AS DOUBLE PRECISION) AS max_seconds,
  CAST(EXTRACT(EPOCH FROM COALESCE(ended_at, last_sample_at) - first_sample_at) AS DOUBLE PRECISION) AS seconds,
  CASE WHEN ended_at IS NULL THEN relink_url END AS relink_url
FROM cronofy._state_runs
WHERE
  state = 'disconnected'
