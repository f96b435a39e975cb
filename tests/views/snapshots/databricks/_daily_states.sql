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
), intervals AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    state,
    start_us,
    end_us,
    start_us - start_us % 86400000000 AS first_day_us,
    (
      end_us - 1
    ) - (
      end_us - 1
    ) % 86400000000 AS last_day_us
  FROM main.cronofy._intervals
), bounds AS (
  SELECT
    MIN(first_day_us) AS first_day_us,
    MAX(last_day_us) AS last_day_us
  FROM intervals
), days AS (
  SELECT
    bounds.first_day_us + numbers.number * 86400000000 AS day_us
  FROM numbers
  INNER JOIN bounds
    ON bounds.first_day_us + numbers.number * 86400000000 <= bounds.last_day_us
), edges AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    state,
    first_day_us AS day_us,
    CASE WHEN first_day_us = last_day_us THEN end_us ELSE first_day_us + 86400000000 END - start_us AS length_us
  FROM intervals
  UNION ALL
  SELECT
    account_id,
    profile_type,
    profile_id,
    state,
    last_day_us AS day_us,
    end_us - last_day_us AS length_us
  FROM intervals
  WHERE
    first_day_us < last_day_us
)
SELECT
  account_id,
  profile_type,
  profile_id,
  day_us,
  CAST(SUM(CASE WHEN state = 'connected' THEN length_us ELSE 0 END) AS BIGINT) AS connected_us,
  CAST(SUM(CASE WHEN state = 'disconnected' THEN length_us ELSE 0 END) AS BIGINT) AS disconnected_us,
  CAST(SUM(CASE WHEN state = 'unknown' THEN length_us ELSE 0 END) AS BIGINT) AS unknown_us,
  CAST(SUM(CASE WHEN state = 'removed' THEN length_us ELSE 0 END) AS BIGINT) AS removed_us
FROM edges
GROUP BY
  account_id,
  profile_type,
  profile_id,
  day_us
UNION ALL
SELECT
  intervals.account_id,
  intervals.profile_type,
  intervals.profile_id,
  days.day_us,
  CASE WHEN intervals.state = 'connected' THEN 86400000000 ELSE 0 END AS connected_us,
  CASE WHEN intervals.state = 'disconnected' THEN 86400000000 ELSE 0 END AS disconnected_us,
  CASE WHEN intervals.state = 'unknown' THEN 86400000000 ELSE 0 END AS unknown_us,
  CASE WHEN intervals.state = 'removed' THEN 86400000000 ELSE 0 END AS removed_us
FROM intervals
INNER JOIN days
  ON intervals.first_day_us < days.day_us AND intervals.last_day_us > days.day_us
