-- _intervals: one row per profile and maximal interval of one state; profile_intervals without names, in microseconds.
-- The known intervals are where a run of one sampled state and a span of coverage meet; the rest is unknown.
--
-- account_id, profile_type, profile_id, state
-- start_us, end_us: half-open, never empty
WITH runs AS (
    SELECT
        account_id,
        profile_type,
        profile_id,
        state,
        previous_state,
        start_us,
        coalesce(end_us, (SELECT as_of_us FROM _newest_poll)) AS end_us
    FROM _state_runs
),
spans AS (
    SELECT account_id, profile_type, start_us, end_us, next_start_us
    FROM _sample_spans
)
SELECT
    runs.account_id,
    runs.profile_type,
    runs.profile_id,
    runs.state,
    CASE WHEN runs.start_us > spans.start_us THEN runs.start_us ELSE spans.start_us END AS start_us,
    CASE WHEN runs.end_us < spans.end_us THEN runs.end_us ELSE spans.end_us END AS end_us
FROM runs
INNER JOIN spans
    ON
        runs.account_id = spans.account_id
        AND runs.profile_type = spans.profile_type
        AND runs.start_us < spans.end_us
        AND runs.end_us > spans.start_us
WHERE runs.start_us < runs.end_us AND spans.start_us < spans.end_us
UNION ALL
SELECT
    runs.account_id,
    runs.profile_type,
    runs.profile_id,
    'unknown' AS state,
    spans.end_us AS start_us,
    spans.next_start_us AS end_us
FROM runs
INNER JOIN spans
    ON
        runs.account_id = spans.account_id
        AND runs.profile_type = spans.profile_type
        AND runs.start_us < spans.end_us
WHERE runs.previous_state IS NULL AND spans.end_us < spans.next_start_us
