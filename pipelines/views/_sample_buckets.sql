-- _sample_buckets: one row per account, profile type and stretch of `hold` length with a sample in it.
-- Two samples in one stretch are never further apart than `hold`, so its first and last sample are all that coverage
-- needs; many polls shrink to few rows before anything has to be sorted.
--
-- account_id, profile_type
-- bucket_us: start of the stretch
-- first_us, last_us: first and last sample in it
-- previous_us: last sample before the stretch, null if there is none
WITH buckets AS (
    SELECT
        account_id,
        bucket_us,
        min(CASE WHEN calendar = 1 THEN sampled_us END) AS first_calendar_us,
        max(CASE WHEN calendar = 1 THEN sampled_us END) AS last_calendar_us,
        min(CASE WHEN conferencing = 1 THEN sampled_us END) AS first_conferencing_us,
        max(CASE WHEN conferencing = 1 THEN sampled_us END) AS last_conferencing_us
    FROM _samples
    GROUP BY account_id, bucket_us
),
neighbours AS (
    SELECT
        account_id,
        bucket_us,
        first_calendar_us,
        last_calendar_us,
        max(last_calendar_us) OVER (
            PARTITION BY account_id ORDER BY bucket_us ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS previous_calendar_us,
        first_conferencing_us,
        last_conferencing_us,
        max(last_conferencing_us) OVER (
            PARTITION BY account_id ORDER BY bucket_us ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
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
WHERE first_calendar_us IS NOT NULL
UNION ALL
SELECT
    account_id,
    'conferencing' AS profile_type,
    bucket_us,
    first_conferencing_us AS first_us,
    last_conferencing_us AS last_us,
    previous_conferencing_us AS previous_us
FROM neighbours
WHERE first_conferencing_us IS NOT NULL
