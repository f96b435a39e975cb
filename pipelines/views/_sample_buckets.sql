-- _sample_buckets: one row per account and stretch of `hold` length with a sample in it.
-- Two samples in one stretch are never further apart than `hold`, so the first and last sample of each profile type
-- are all that coverage needs; many polls shrink to few rows before anything has to be sorted.
--
-- account_id
-- bucket_us: start of the stretch
-- first_calendar_us, last_calendar_us: first and last sample of calendar profiles in it, null if there is none
-- first_conferencing_us, last_conferencing_us: the same of conferencing profiles
SELECT
    account_id,
    bucket_us,
    min(CASE WHEN calendar = 1 THEN sampled_us END) AS first_calendar_us,
    max(CASE WHEN calendar = 1 THEN sampled_us END) AS last_calendar_us,
    min(CASE WHEN conferencing = 1 THEN sampled_us END) AS first_conferencing_us,
    max(CASE WHEN conferencing = 1 THEN sampled_us END) AS last_conferencing_us
FROM _samples
GROUP BY account_id, bucket_us
