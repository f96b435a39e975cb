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
    TIMESTAMP_DIFF(last_sample_at, first_sample_at, MICROSECOND) / 1000000
  ) AS min_seconds,
  (
    TIMESTAMP_DIFF(ended_at, started_after, MICROSECOND) / 1000000
  ) AS max_seconds,
  (
    TIMESTAMP_DIFF(COALESCE(ended_at, last_sample_at), first_sample_at, MICROSECOND) / 1000000
  ) AS seconds,
  CASE WHEN ended_at IS NULL THEN relink_url END AS relink_url
FROM `my-project`.cronofy._state_runs
WHERE
  state = 'disconnected'
