WITH runs AS (
  SELECT
    *,
    state = 'disconnected' AND first_sample_at >= as_of - INTERVAL '720' HOUR AS is_recent_outage
  FROM `my-project`.cronofy._state_runs
  CROSS JOIN `my-project`.cronofy._as_of
)
SELECT
  account_id,
  profile_type,
  profile_id,
  provider,
  provider_name,
  provider_service,
  COUNT(CASE WHEN is_recent_outage THEN 1 END) AS outages_30d,
  MAX(CASE WHEN ended_at IS NULL THEN state END) AS state,
  MAX(first_sample_at) AS last_changed_at
FROM runs
GROUP BY
  account_id,
  profile_type,
  profile_id,
  provider,
  provider_name,
  provider_service
HAVING
  COUNT(CASE WHEN is_recent_outage THEN 1 END) >= 3
