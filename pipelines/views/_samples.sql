-- _samples: one row per instant at which an account's profiles were seen, and per poll or change that says so.
-- A poll is a sample of all calendar profiles of its account when it was ok and counts calendar profiles, and of all
-- its conferencing profiles when it counts those. A change can only have been seen in a sample, so its instant is a
-- sample too, even if the row of the poll is missing. Rows may repeat: nothing built on them counts them.
--
-- account_id
-- sampled_us: microseconds since 1970-01-01 UTC
-- bucket_us: start of the stretch of `hold` length, counted from 1970, that sampled_us falls in
-- calendar, conferencing: 1 if the profiles of that type were sampled, else 0
WITH seen AS (
    SELECT
        account_id,
        epoch_us(polled_at) AS sampled_us,
        CASE WHEN profiles IS NOT NULL THEN 1 ELSE 0 END AS calendar,
        CASE WHEN conferencing_profiles IS NOT NULL THEN 1 ELSE 0 END AS conferencing
    FROM polls
    WHERE outcome = 'ok' AND polled_at IS NOT NULL AND (profiles IS NOT NULL OR conferencing_profiles IS NOT NULL)
    UNION ALL
    SELECT
        account_id,
        epoch_us(observed_at) AS sampled_us,
        CASE WHEN profile_type = 'calendar' THEN 1 ELSE 0 END AS calendar,
        CASE WHEN profile_type = 'conferencing' THEN 1 ELSE 0 END AS conferencing
    FROM profile_changes
    WHERE observed_at <= (SELECT max(polled_at) FROM polls)
)
SELECT account_id, sampled_us, sampled_us - sampled_us % $hold_us AS bucket_us, calendar, conferencing
FROM seen
WHERE account_id IS NOT NULL
