SELECT
  intervals.account_id,
  intervals.profile_type,
  intervals.profile_id,
  names.provider_name,
  names.provider_service,
  intervals.state,
  MAKE_TIMESTAMPTZ(intervals.start_us) AS start_at,
  MAKE_TIMESTAMPTZ(intervals.end_us) AS end_at,
  intervals.end_us = (
    SELECT
      as_of_us
    FROM _newest_poll
  ) AS is_current
FROM _intervals AS intervals
INNER JOIN _profile_names AS names
  ON intervals.account_id = names.account_id
  AND intervals.profile_type = names.profile_type
  AND intervals.profile_id = names.profile_id
