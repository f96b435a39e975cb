WITH neighbours AS (
  SELECT
    account_id,
    first_calendar_us,
    MAX(last_calendar_us) OVER (
      PARTITION BY account_id
      ORDER BY bucket_us
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS previous_calendar_us,
    MAX(last_calendar_us) OVER (PARTITION BY account_id) AS newest_calendar_us,
    first_conferencing_us,
    MAX(last_conferencing_us) OVER (
      PARTITION BY account_id
      ORDER BY bucket_us
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS previous_conferencing_us,
    MAX(last_conferencing_us) OVER (PARTITION BY account_id) AS newest_conferencing_us
  FROM analytics.cronofy._sample_buckets
), edges AS (
  SELECT
    *
  FROM neighbours
  WHERE
    previous_calendar_us IS NULL
    OR first_calendar_us > previous_calendar_us + 86400000000
    OR previous_conferencing_us IS NULL
    OR first_conferencing_us > previous_conferencing_us + 86400000000
), starts AS (
  SELECT
    account_id,
    'calendar' AS profile_type,
    first_calendar_us AS start_us,
    previous_calendar_us AS previous_us,
    newest_calendar_us AS newest_us
  FROM edges
  WHERE
    NOT first_calendar_us IS NULL
    AND (
      previous_calendar_us IS NULL
      OR first_calendar_us > previous_calendar_us + 86400000000
    )
  UNION ALL
  SELECT
    account_id,
    'conferencing' AS profile_type,
    first_conferencing_us AS start_us,
    previous_conferencing_us AS previous_us,
    newest_conferencing_us AS newest_us
  FROM edges
  WHERE
    NOT first_conferencing_us IS NULL
    AND (
      previous_conferencing_us IS NULL
      OR first_conferencing_us > previous_conferencing_us + 86400000000
    )
), profiled AS (
  SELECT DISTINCT
    account_id,
    profile_type
  FROM analytics.cronofy.profile_changes
), held AS (
  SELECT
    starts.account_id,
    starts.profile_type,
    starts.start_us,
    COALESCE(
      LEAD(starts.previous_us) OVER (PARTITION BY starts.account_id, starts.profile_type ORDER BY starts.start_us),
      starts.newest_us
    ) + 86400000000 AS held_us,
    LEAD(starts.start_us) OVER (PARTITION BY starts.account_id, starts.profile_type ORDER BY starts.start_us) AS following_us
  FROM starts
  INNER JOIN profiled
    ON starts.account_id = profiled.account_id
    AND starts.profile_type = profiled.profile_type
)
SELECT
  account_id,
  profile_type,
  start_us,
  CASE WHEN held_us < as_of_us THEN held_us ELSE as_of_us END AS end_us,
  COALESCE(following_us, as_of_us) AS next_start_us
FROM held
CROSS JOIN analytics.cronofy._newest_poll
