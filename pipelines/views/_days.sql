-- _days: one row per UTC day from the first sample to as_of, up to 10,000 of them.
--
-- day
-- start_at, end_at: start_at <= t < end_at
WITH digits AS (
    SELECT 0 AS digit
    UNION ALL SELECT 1
    UNION ALL SELECT 2
    UNION ALL SELECT 3
    UNION ALL SELECT 4
    UNION ALL SELECT 5
    UNION ALL SELECT 6
    UNION ALL SELECT 7
    UNION ALL SELECT 8
    UNION ALL SELECT 9
),
numbers AS (
    SELECT ones.digit + 10 * tens.digit + 100 * hundreds.digit + 1000 * thousands.digit AS number
    FROM digits AS ones
    CROSS JOIN digits AS tens
    CROSS JOIN digits AS hundreds
    CROSS JOIN digits AS thousands
),
bounds AS (
    SELECT
        CAST(min(first_sample_at) AT TIME ZONE 'UTC' AS DATE) AS first_day,
        CAST(max(as_of) AT TIME ZONE 'UTC' AS DATE) AS last_day
    FROM coverage
    CROSS JOIN _as_of
)
SELECT
    first_day + number AS day,
    CAST(first_day + number AS TIMESTAMP) AT TIME ZONE 'UTC' AS start_at,
    CAST(first_day + number + 1 AS TIMESTAMP) AT TIME ZONE 'UTC' AS end_at
FROM bounds
INNER JOIN numbers ON first_day + number <= last_day
-- PostgreSQL keeps what is sorted; else it counts to 10,000 once more for each row that is joined
ORDER BY day
