-- profile_intervals: one row per profile and maximal interval of one state.
-- A sample holds from its polled_at until the account's next sample of that profile type, but at most `hold`; after
-- that the state is unknown until the next sample. Per profile the intervals do not overlap and leave no hole from its
-- first sample to as_of, the newest polled_at in polls. Intervals are half-open and never empty: a sample at as_of
-- itself has had no time to last, so it shows in account_health and outages but starts no interval here, and a profile
-- first seen at as_of has no row yet.
--
-- account_id, profile_type (calendar or conferencing), profile_id
-- provider_name, provider_service: newest known
-- state: connected, disconnected, removed or unknown
-- start_at, end_at: start_at <= t < end_at
-- is_current: true for the interval that reaches as_of
SELECT
    intervals.account_id,
    intervals.profile_type,
    intervals.profile_id,
    names.provider_name,
    names.provider_service,
    intervals.state,
    make_timestamptz(intervals.start_us) AS start_at,
    make_timestamptz(intervals.end_us) AS end_at,
    intervals.end_us = (SELECT as_of_us FROM _newest_poll) AS is_current
FROM _intervals AS intervals
INNER JOIN _profile_names AS names
    ON
        intervals.account_id = names.account_id
        AND intervals.profile_type = names.profile_type
        AND intervals.profile_id = names.profile_id
