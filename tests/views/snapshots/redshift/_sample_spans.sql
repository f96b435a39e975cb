WITH buckets AS (
  SELECT
    account_id,
    profile_type,
    first_us,
    last_us,
    previous_us
  FROM cronofy._sample_buckets
), newest_samples AS (
  SELECT
    account_id,
    profile_type,
    MAX(last_us) AS newest_us
  FROM buckets
  GROUP BY
    account_id,
    profile_type
), profiled AS (
  SELECT DISTINCT
    account_id,
    profile_type
  FROM cronofy.profile_changes
), starts AS (
  SELECT
    account_id,
    profile_type,
    first_us AS start_us,
    previous_us
  FROM buckets
  WHERE
    previous_us IS NULL OR first_us > previous_us + 86400000000
), spans AS (
  SELECT
    account_id,
    profile_type,
    start_us,
    LEAD(previous_us) OVER (PARTITION BY account_id, profile_type ORDER BY start_us) AS last_us,
    LEAD(start_us) OVER (PARTITION BY account_id, profile_type ORDER BY start_us) AS following_us
  FROM starts
), held AS (
  SELECT
    spans.account_id,
    spans.profile_type,
    spans.start_us,
    COALESCE(spans.last_us, newest_samples.newest_us) + 86400000000 AS held_us,
    spans.following_us
  FROM spans
  INNER JOIN profiled
    ON spans.account_id = profiled.account_id
    AND spans.profile_type = profiled.profile_type
  INNER JOIN newest_samples
    ON spans.account_id = newest_samples.account_id
    AND spans.profile_type = newest_samples.profile_type
)
SELECT
  account_id,
  profile_type,
  start_us,
  CASE WHEN held_us < as_of_us THEN held_us ELSE as_of_us END AS end_us,
  COALESCE(following_us, as_of_us) AS next_start_us
FROM held
CROSS JOIN cronofy._newest_poll
