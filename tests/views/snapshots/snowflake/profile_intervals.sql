SELECT
  intervals.account_id,
  intervals.profile_type,
  intervals.profile_id,
  names.provider_name,
  names.provider_service,
  intervals.state,
  TO_TIMESTAMP(intervals.start_us, 6) AS start_at,
  TO_TIMESTAMP(intervals.end_us, 6) AS end_at,
  intervals.end_us = (
    SELECT
      as_of_us
    FROM analytics.cronofy._newest_poll
  ) AS is_current
FROM analytics.cronofy._intervals AS intervals
INNER JOIN analytics.cronofy._profile_names AS names
  ON intervals.account_id = names.account_id
  AND intervals.profile_type = names.profile_type
  AND intervals.profile_id = names.profile_id
