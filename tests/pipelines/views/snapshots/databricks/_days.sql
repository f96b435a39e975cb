WITH digits AS (
  SELECT
    digit
  FROM VALUES
    (0),
    (1),
    (2),
    (3),
    (4),
    (5),
    (6),
    (7),
    (8),
    (9) AS listed(digit)
), numbers AS (
  SELECT
    ones.digit + 10 * tens.digit + 100 * hundreds.digit + 1000 * thousands.digit AS number
  FROM digits AS ones
  CROSS JOIN digits AS tens
  CROSS JOIN digits AS hundreds
  CROSS JOIN digits AS thousands
), bounds AS (
  SELECT
    DATE_FROM_UNIX_DATE(CAST(FLOOR(UNIX_SECONDS(MIN(first_sample_at)) / 86400) AS INT)) AS first_day,
    DATE_FROM_UNIX_DATE(
      CAST(FLOOR(UNIX_SECONDS((
        SELECT
          as_of
        FROM main.cronofy._as_of
      )) / 86400) AS INT)
    ) AS last_day
  FROM main.cronofy.coverage
)
SELECT
  first_day + number AS day,
  TIMESTAMP_SECONDS(
    DATEDIFF(DAY, CAST('1970-01-01' AS DATE), (
      first_day + number
    )) * CAST(86400 AS BIGINT)
  ) AS start_at,
  TIMESTAMP_SECONDS(
    DATEDIFF(DAY, CAST('1970-01-01' AS DATE), (
      first_day + number + 1
    )) * CAST(86400 AS BIGINT)
  ) AS end_at
FROM bounds
INNER JOIN numbers
  ON first_day + number <= last_day
