WITH seen AS (
  SELECT
    account_id,
    DATE_PART(EPOCH_MICROSECOND, polled_at) AS sampled_us,
    CASE WHEN NOT profiles IS NULL THEN 1 ELSE 0 END AS calendar,
    CASE WHEN NOT conferencing_profiles IS NULL THEN 1 ELSE 0 END AS conferencing
  FROM analytics.cronofy.polls
  WHERE
    outcome = 'ok'
    AND NOT polled_at IS NULL
    AND (
      NOT profiles IS NULL OR NOT conferencing_profiles IS NULL
    )
  UNION ALL
  SELECT
    account_id,
    DATE_PART(EPOCH_MICROSECOND, observed_at) AS sampled_us,
    CASE WHEN profile_type = 'calendar' THEN 1 ELSE 0 END AS calendar,
    CASE WHEN profile_type = 'conferencing' THEN 1 ELSE 0 END AS conferencing
  FROM analytics.cronofy.profile_changes
  WHERE
    observed_at <= (
      SELECT
        MAX(polled_at)
      FROM analytics.cronofy.polls
    )
)
SELECT
  account_id,
  sampled_us,
  sampled_us - sampled_us % 86400000000 AS bucket_us,
  calendar,
  conferencing
FROM seen
WHERE
  NOT account_id IS NULL
