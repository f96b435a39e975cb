WITH digits AS (
  SELECT
    digit
  FROM (VALUES
    (0),
    (1),
    (2),
    (3),
    (4),
    (5),
    (6),
    (7),
    (8),
    (9)) AS listed(digit)
), numbers AS (
  SELECT
    ones.digit + 10 * tens.digit + 100 * hundreds.digit + 1000 * thousands.digit AS number
  FROM digits AS ones
  CROSS JOIN digits AS tens
  CROSS JOIN digits AS hundreds
  CROSS JOIN digits AS thousands
), bounds AS (
  SELECT
    CAST(CONVERT_TIMEZONE('UTC', MIN(first_sample_at)) AS DATE) AS first_day,
    CAST(CONVERT_TIMEZONE('UTC', (
      SELECT
        as_of
      FROM analytics.cronofy._as_of
    )) AS DATE) AS last_day
  FROM analytics.cronofy.coverage
)
SELECT
  first_day + number AS day,
  TO_TIMESTAMP_TZ(DATE_PART(EPOCH_SECOND, (
    first_day + number
  ))) AS start_at,
  TO_TIMESTAMP_TZ(DATE_PART(EPOCH_SECOND, (
    first_day + number + 1
  ))) AS end_at
FROM bounds
INNER JOIN numbers
  ON first_day + number <= last_day
