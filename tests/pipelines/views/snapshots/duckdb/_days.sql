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
    CAST(MIN(first_sample_at) AT TIME ZONE 'UTC' AS DATE) AS first_day,
    CAST((
      SELECT
        as_of
      FROM _as_of
    ) AT TIME ZONE 'UTC' AS DATE) AS last_day
  FROM coverage
)
SELECT
  first_day + number AS day,
  CAST(first_day + number AS TIMESTAMP) AT TIME ZONE 'UTC' AS start_at,
  CAST(first_day + number + 1 AS TIMESTAMP) AT TIME ZONE 'UTC' AS end_at
FROM bounds
INNER JOIN numbers
  ON first_day + number <= last_day
