-- connectivity_daily: one row per profile and UTC day, from the day of its first sample to the day of as_of.
-- The intervals of profile_intervals cut at midnight UTC; as_of is the newest polled_at in polls.
--
-- account_id, profile_type, profile_id
-- provider_name, provider_service: newest known
-- day
-- connected_seconds, disconnected_seconds, unknown_seconds, removed_seconds
-- uptime: connected / (connected + disconnected); null if that is 0
-- coverage: (connected + disconnected) / (all but removed); null if that is 0
SELECT
    daily.account_id,
    daily.profile_type,
    daily.profile_id,
    names.provider_name,
    names.provider_service,
    DATE '1970-01-01' + CAST(daily.day_us / 86400000000 AS INTEGER) AS day,
    CAST(daily.connected_us AS DOUBLE) / 1000000 AS connected_seconds,
    CAST(daily.disconnected_us AS DOUBLE) / 1000000 AS disconnected_seconds,
    CAST(daily.unknown_us AS DOUBLE) / 1000000 AS unknown_seconds,
    CAST(daily.removed_us AS DOUBLE) / 1000000 AS removed_seconds,
    CASE WHEN daily.connected_us + daily.disconnected_us > 0 THEN
        CAST(daily.connected_us AS DOUBLE) / (daily.connected_us + daily.disconnected_us)
    END AS uptime,
    CASE WHEN daily.connected_us + daily.disconnected_us + daily.unknown_us > 0 THEN
        CAST(daily.connected_us + daily.disconnected_us AS DOUBLE)
        / (daily.connected_us + daily.disconnected_us + daily.unknown_us)
    END AS coverage
FROM _daily_states AS daily
INNER JOIN _profile_names AS names
    ON
        daily.account_id = names.account_id
        AND daily.profile_type = names.profile_type
        AND daily.profile_id = names.profile_id
