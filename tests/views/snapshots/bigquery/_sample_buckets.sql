WITH buckets AS (
  SELECT
    account_id,
    bucket_us,
    MIN(CASE WHEN calendar = 1 THEN sampled_us END) AS first_calendar_us,
    MAX(CASE WHEN calendar = 1 THEN sampled_us END) AS last_calendar_us,
    MIN(CASE WHEN conferencing = 1 THEN sampled_us END) AS first_conferencing_us,
    MAX(CASE WHEN conferencing = 1 THEN sampled_us END) AS last_conferencing_us
  FROM `my-project`.cronofy._samples
  GROUP BY
    account_id,
    bucket_us
), neighbours AS (
  SELECT
    account_id,
    bucket_us,
    first_calendar_us,
    last_calendar_us,
    MAX(last_calendar_us) OVER (
      PARTITION BY account_id
      ORDER BY bucket_us
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS previous_calendar_us,
    first_conferencing_us,
    last_conferencing_us,
    MAX(last_conferencing_us) OVER (
      PARTITION BY account_id
      ORDER BY bucket_us
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS previous_conferencing_us
  FROM buckets
)
SELECT
  account_id,
  'calendar' AS profile_type,
  bucket_us,
  first_calendar_us AS first_us,
  last_calendar_us AS last_us,
  previous_calendar_us AS previous_us
FROM neighbours
WHERE
  NOT first_calendar_us IS NULL
UNION ALL
SELECT
  account_id,
  'conferencing' AS profile_type,
  bucket_us,
  first_conferencing_us AS first_us,
  last_conferencing_us AS last_us,
  previous_conferencing_us AS previous_us
FROM neighbours
WHERE
  NOT first_conferencing_us IS NULL
