WITH digits AS (
  SELECT
    digit
  FROM UNNEST([
    STRUCT(0 AS digit),
    STRUCT(1 AS digit),
    STRUCT(2 AS digit),
    STRUCT(3 AS digit),
    STRUCT(4 AS digit),
    STRUCT(5 AS digit),
    STRUCT(6 AS digit),
    STRUCT(7 AS digit),
    STRUCT(8 AS digit),
    STRUCT(9 AS digit)
  ]) AS listed
), numbers AS (
  SELECT
    ones.digit + 10 * tens.digit + 100 * hundreds.digit + 1000 * thousands.digit AS number
  FROM digits AS ones
  CROSS JOIN digits AS tens
  CROSS JOIN digits AS hundreds
  CROSS JOIN digits AS thousands
), bounds AS (
  SELECT
    EXTRACT(DATE FROM TIMESTAMP(DATETIME(MIN(first_sample_at), 'UTC'))) AS first_day,
    EXTRACT(DATE FROM TIMESTAMP(DATETIME((
      SELECT
        as_of
      FROM `my-project`.cronofy._as_of
    ), 'UTC'))) AS last_day
  FROM `my-project`.cronofy.coverage
)
SELECT
  first_day + number AS day,
  TIMESTAMP((
    first_day + number
  ), 'UTC') AS start_at,
  TIMESTAMP((
    first_day + number + 1
  ), 'UTC') AS end_at
FROM bounds
INNER JOIN numbers
  ON first_day + number <= last_day
