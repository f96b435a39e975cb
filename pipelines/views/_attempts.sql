-- _attempts: one row per row of polls, its time in microseconds. Rows may repeat.
--
-- poll_id, run_id, token_key, endpoint, outcome
-- polled_us: microseconds since 1970-01-01 UTC
-- day_us: start of the UTC day
SELECT
    poll_id,
    run_id,
    token_key,
    endpoint,
    outcome,
    epoch_us(polled_at) AS polled_us,
    epoch_us(polled_at) - epoch_us(polled_at) % 86400000000 AS day_us
FROM polls
WHERE polled_at IS NOT NULL
