-- _sample_spans: one row per account, profile type and maximal span of time in which its profiles' states are known.
-- A sample is trusted for `hold`; samples closer together than that join into one span. No span passes as_of. Accounts
-- that never had a profile of the type are left out.
--
-- account_id, profile_type
-- start_us: first sample of the span
-- end_us: where the hold of its last sample runs out, or as_of if that is earlier
-- next_start_us: start of the next span, as_of after the last one; from end_us to here nothing is known
WITH neighbours AS (
    SELECT
        account_id,
        first_calendar_us,
        max(last_calendar_us) OVER (
            PARTITION BY account_id ORDER BY bucket_us ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS previous_calendar_us,
        max(last_calendar_us) OVER (PARTITION BY account_id) AS newest_calendar_us,
        first_conferencing_us,
        max(last_conferencing_us) OVER (
            PARTITION BY account_id ORDER BY bucket_us ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS previous_conferencing_us,
        max(last_conferencing_us) OVER (PARTITION BY account_id) AS newest_conferencing_us
    FROM _sample_buckets
),
-- most stretches start no span of either type
edges AS (
    SELECT *
    FROM neighbours
    WHERE
        previous_calendar_us IS NULL
        OR first_calendar_us > previous_calendar_us + $hold_us
        OR previous_conferencing_us IS NULL
        OR first_conferencing_us > previous_conferencing_us + $hold_us
),
starts AS (
    SELECT
        account_id,
        'calendar' AS profile_type,
        first_calendar_us AS start_us,
        previous_calendar_us AS previous_us,
        newest_calendar_us AS newest_us
    FROM edges
    WHERE
        first_calendar_us IS NOT NULL
        AND (previous_calendar_us IS NULL OR first_calendar_us > previous_calendar_us + $hold_us)
    UNION ALL
    SELECT
        account_id,
        'conferencing' AS profile_type,
        first_conferencing_us AS start_us,
        previous_conferencing_us AS previous_us,
        newest_conferencing_us AS newest_us
    FROM edges
    WHERE
        first_conferencing_us IS NOT NULL
        AND (previous_conferencing_us IS NULL OR first_conferencing_us > previous_conferencing_us + $hold_us)
),
profiled AS (
    SELECT DISTINCT account_id, profile_type
    FROM profile_changes
),
held AS (
    SELECT
        starts.account_id,
        starts.profile_type,
        starts.start_us,
        coalesce(
            lead(starts.previous_us) OVER (
                PARTITION BY starts.account_id, starts.profile_type ORDER BY starts.start_us
            ),
            starts.newest_us
        ) + $hold_us AS held_us,
        lead(starts.start_us) OVER (
            PARTITION BY starts.account_id, starts.profile_type ORDER BY starts.start_us
        ) AS following_us
    FROM starts
    INNER JOIN profiled
        ON starts.account_id = profiled.account_id AND starts.profile_type = profiled.profile_type
)
SELECT
    account_id,
    profile_type,
    start_us,
    CASE WHEN held_us < as_of_us THEN held_us ELSE as_of_us END AS end_us,
    coalesce(following_us, as_of_us) AS next_start_us
FROM held
CROSS JOIN _newest_poll
