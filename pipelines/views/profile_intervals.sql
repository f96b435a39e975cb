-- profile_intervals: one row per profile and maximal interval of one state.
-- A sample holds from its polled_at until the account's next sample of that profile type, but at most `hold`; after
-- that the state is unknown until the next sample. Per profile the intervals do not overlap and leave no hole from its
-- first sample to as_of, the newest polled_at. Intervals are half-open and never empty: a sample at as_of itself has
-- had no time to last, so it shows in account_health and outages but starts no interval here, and a profile first seen
-- at as_of has no row yet.
--
-- account_id, profile_type (calendar or conferencing), profile_id, provider
-- provider_name, provider_service: newest known
-- state: connected, disconnected, removed or unknown
-- start_at, end_at: start_at <= t < end_at
-- is_current: true for the interval that reaches as_of
WITH spans AS (
    SELECT
        account_id, profile_type, first_sample_at,
        last_sample_at + $hold AS hold_ends_at,
        coalesce(
            lead(first_sample_at) OVER (PARTITION BY account_id, profile_type ORDER BY first_sample_at), as_of
        ) AS next_sample_at
    FROM coverage
    CROSS JOIN _as_of
),
-- of each account and profile type: when its profiles' states are known, and when they are not
stretches AS (
    SELECT
        account_id, profile_type, TRUE AS is_known,
        first_sample_at AS start_at,
        least(hold_ends_at, next_sample_at) AS end_at
    FROM spans
    UNION ALL
    SELECT account_id, profile_type, FALSE AS is_known, hold_ends_at AS start_at, next_sample_at AS end_at
    FROM spans
    WHERE hold_ends_at < next_sample_at
),
intervals AS (
    SELECT
        account_id, profile_type, profile_id, provider, provider_name, provider_service,
        CASE WHEN is_known THEN state ELSE 'unknown' END AS state,
        greatest(first_sample_at, start_at) AS start_at,
        least(coalesce(ended_at, end_at), end_at) AS end_at
    FROM _state_runs
    INNER JOIN stretches USING (account_id, profile_type)
)
SELECT *, end_at = (SELECT as_of FROM _as_of) AS is_current
FROM intervals
WHERE start_at < end_at
