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
  ROUND(EPOCH(last_sample_at) - EPOCH(first_sample_at), 6) AS min_seconds,
  ROUND(EPOCH(ended_at) - EPOCH(started_after), 6) AS max_seconds,
  ROUND(EPOCH(COALESCE(ended_at, last_sample_at)) - EPOCH(first_sample_at), 6) AS seconds,
  CASE WHEN ended_at IS NULL THEN relink_url END AS relink_url
FROM _state_runs
WHERE
  state = 'disconnected'
