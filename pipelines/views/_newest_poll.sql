-- _newest_poll: one row.
-- The time all views speak of: the newest polled_at in polls, so that no view reads the clock.
--
-- as_of_us: microseconds since 1970-01-01 UTC
SELECT epoch_us(max(polled_at)) AS as_of_us
FROM polls
