-- _as_of: one row.
-- The time all views speak of: the newest polled_at of all runs, so that no view reads the clock.
--
-- as_of
SELECT max(last_polled_at) AS as_of
FROM runs
-- PostgreSQL keeps what is sorted; else it may read all runs once more for each row that is joined
ORDER BY as_of
