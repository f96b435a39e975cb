SELECT
  intervals.account_id,
  intervals.profile_type,
  intervals.profile_id,
  names.provider_name,
  names.provider_service,
  intervals.state,
  TIMESTAMP_MICROS(intervals.start_us) AS start_at,
  TIMESTAMP_MICROS(intervals.end_us) AS end_at,
  intervals.end_us = (
    SELECT
      as_of_us
    FROM `my-project`.cronofy._newest_poll
  ) AS is_current
FROM `my-project`.cronofy._intervals AS intervals
INNER JOIN `my-project`.cronofy._profile_names AS names
  ON intervals.account_id = names.account_id
  AND intervals.profile_type = names.profile_type
  AND intervals.profile_id = names.profile_id
