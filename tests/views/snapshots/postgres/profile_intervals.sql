SELECT
  intervals.account_id,
  intervals.profile_type,
  intervals.profile_id,
  names.provider_name,
  names.provider_service,
  intervals.state,
  CAST('1970-01-01 00:00:00+00' AS TIMESTAMPTZ) + intervals.start_us * INTERVAL '1 MICROSECOND' AS start_at,
  CAST('1970-01-01 00:00:00+00' AS TIMESTAMPTZ) + intervals.end_us * INTERVAL '1 MICROSECOND' AS end_at,
  intervals.end_us = (
    SELECT
      as_of_us
    FROM cronofy._newest_poll
  ) AS is_current
FROM cronofy._intervals AS intervals
INNER JOIN cronofy._profile_names AS names
  ON intervals.account_id = names.account_id
  AND intervals.profile_type = names.profile_type
  AND intervals.profile_id = names.profile_id
