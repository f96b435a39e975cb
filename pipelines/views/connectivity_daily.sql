-- connectivity_daily: one row per profile and UTC day, from the day of its first sample to the day of as_of.
-- The intervals of profile_intervals cut at midnight UTC; as_of is the newest polled_at.
--
-- account_id, profile_type, profile_id, provider
-- provider_name, provider_service: newest known
-- day
-- connected_seconds, disconnected_seconds, unknown_seconds, removed_seconds
-- uptime: connected / (connected + disconnected); null if that is 0
-- coverage: (connected + disconnected) / (all but removed); null if that is 0
WITH pieces AS (
    SELECT
        intervals.*, days.day,
        -- decimals add up to the same in any order
        CAST(
            epoch(least(intervals.end_at, days.end_at) - greatest(intervals.start_at, days.start_at)) AS DECIMAL(18, 6)
        ) AS seconds
    FROM profile_intervals AS intervals
    INNER JOIN _days AS days
        ON
            intervals.start_at < days.end_at
            AND intervals.end_at > days.start_at
            AND (intervals.start_at > days.start_at OR intervals.end_at < days.end_at)
),
-- most days are in one state from midnight to midnight: only of the others is anything to be added up
totals AS (
    SELECT
        account_id, profile_type, profile_id, provider, provider_name, provider_service, day,
        CASE state WHEN 'connected' THEN 86400 ELSE 0 END AS connected_seconds,
        CASE state WHEN 'disconnected' THEN 86400 ELSE 0 END AS disconnected_seconds,
        CASE state WHEN 'unknown' THEN 86400 ELSE 0 END AS unknown_seconds,
        CASE state WHEN 'removed' THEN 86400 ELSE 0 END AS removed_seconds
    FROM profile_intervals AS intervals
    INNER JOIN _days AS days ON intervals.start_at <= days.start_at AND intervals.end_at >= days.end_at
    UNION ALL
    SELECT
        account_id, profile_type, profile_id,
        max(provider) AS provider,
        max(provider_name) AS provider_name,
        max(provider_service) AS provider_service,
        day,
        CAST(sum(CASE state WHEN 'connected' THEN seconds ELSE 0 END) AS DOUBLE) AS connected_seconds,
        CAST(sum(CASE state WHEN 'disconnected' THEN seconds ELSE 0 END) AS DOUBLE) AS disconnected_seconds,
        CAST(sum(CASE state WHEN 'unknown' THEN seconds ELSE 0 END) AS DOUBLE) AS unknown_seconds,
        CAST(sum(CASE state WHEN 'removed' THEN seconds ELSE 0 END) AS DOUBLE) AS removed_seconds
    FROM pieces
    GROUP BY account_id, profile_type, profile_id, day
)
SELECT
    *,
    connected_seconds / nullif(connected_seconds + disconnected_seconds, 0) AS uptime,
    (connected_seconds + disconnected_seconds)
    / nullif(connected_seconds + disconnected_seconds + unknown_seconds, 0) AS coverage
FROM totals
