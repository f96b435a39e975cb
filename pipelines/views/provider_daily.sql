-- provider_daily: one row per provider_service and UTC day.
-- connectivity_daily added up over the profiles of a provider.
--
-- provider_service
-- day
-- profiles: those that were not removed all day
-- connected_seconds, disconnected_seconds, unknown_seconds, removed_seconds: of all profiles together
-- uptime: connected / (connected + disconnected); null if that is 0
-- coverage: (connected + disconnected) / (all but removed); null if that is 0
WITH totals AS (
    SELECT
        names.provider_service,
        daily.day_us,
        sum(CASE WHEN daily.connected_us + daily.disconnected_us + daily.unknown_us > 0 THEN 1 ELSE 0 END) AS profiles,
        CAST(sum(daily.connected_us) AS DOUBLE) AS connected_us,
        CAST(sum(daily.disconnected_us) AS DOUBLE) AS disconnected_us,
        CAST(sum(daily.unknown_us) AS DOUBLE) AS unknown_us,
        CAST(sum(daily.removed_us) AS DOUBLE) AS removed_us
    FROM _daily_states AS daily
    INNER JOIN _profile_names AS names
        ON
            daily.account_id = names.account_id
            AND daily.profile_type = names.profile_type
            AND daily.profile_id = names.profile_id
    GROUP BY names.provider_service, daily.day_us
)
SELECT
    provider_service,
    DATE '1970-01-01' + CAST(day_us / 86400000000 AS INTEGER) AS day,
    CAST(profiles AS BIGINT) AS profiles,
    connected_us / 1000000 AS connected_seconds,
    disconnected_us / 1000000 AS disconnected_seconds,
    unknown_us / 1000000 AS unknown_seconds,
    removed_us / 1000000 AS removed_seconds,
    CASE WHEN connected_us + disconnected_us > 0 THEN connected_us / (connected_us + disconnected_us) END AS uptime,
    CASE WHEN connected_us + disconnected_us + unknown_us > 0 THEN
        (connected_us + disconnected_us) / (connected_us + disconnected_us + unknown_us)
    END AS coverage
FROM totals
