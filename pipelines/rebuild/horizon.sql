-- horizon: one row with the time from which on all polls are kept, or none where no poll was ever deleted.
-- A run whose row counts polls before the oldest one that is left, and more than are left of it, proves that polls were
-- deleted. Runs that did not end prove nothing: their rows may have arrived without their polls.
--
-- polled_at: the oldest poll that is left; where none is, the newest that is gone
-- is_left: 1 if there is one left
WITH oldest AS (
    SELECT min(polled_at) AS polled_at
    FROM polls
    WHERE coalesce(is_late, FALSE) = FALSE
),
earlier AS (
    SELECT runs.run_id, runs.polled + runs.skipped AS polls, runs.last_polled_at, oldest.polled_at
    FROM runs
    CROSS JOIN oldest
    WHERE
        (runs.finished_at IS NOT NULL OR runs.stopped_by = 'killed')
        AND (runs.first_polled_at < oldest.polled_at OR oldest.polled_at IS NULL)
),
present AS (
    SELECT polls.run_id, count(DISTINCT polls.poll_id) AS polls
    FROM polls
    WHERE polls.run_id IN (SELECT run_id FROM earlier)
    GROUP BY polls.run_id
)
SELECT
    coalesce(min(earlier.polled_at), max(earlier.last_polled_at)) AS polled_at,
    count(earlier.polled_at) AS is_left
FROM earlier
LEFT JOIN present ON earlier.run_id = present.run_id
WHERE earlier.polls > coalesce(present.polls, 0)
HAVING count(*) > 0
