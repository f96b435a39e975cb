-- provider_daily: one row per provider and UTC day.
-- connectivity_daily added up over the profiles of a provider. A conferencing provider has a row of its own, in which
-- provider_service is null.
--
-- provider, provider_service, day
-- profiles: those that were not removed all day
-- connected_seconds, disconnected_seconds, unknown_seconds, removed_seconds: of all profiles together
-- uptime: connected / (connected + disconnected); null if that is 0
-- coverage: (connected + disconnected) / (all but removed); null if that is 0
WITH totals AS (
    SELECT
        provider,
        max(provider_service) AS provider_service,
        day,
        count(CASE WHEN connected_seconds + disconnected_seconds + unknown_seconds > 0 THEN 1 END) AS profiles,
        -- decimals add up to the same in any order
        CAST(sum(CAST(connected_seconds AS DECIMAL(18, 6))) AS DOUBLE) AS connected_seconds,
        CAST(sum(CAST(disconnected_seconds AS DECIMAL(18, 6))) AS DOUBLE) AS disconnected_seconds,
        CAST(sum(CAST(unknown_seconds AS DECIMAL(18, 6))) AS DOUBLE) AS unknown_seconds,
        CAST(sum(CAST(removed_seconds AS DECIMAL(18, 6))) AS DOUBLE) AS removed_seconds
    FROM connectivity_daily
    GROUP BY provider, day
)
SELECT
    *,
    connected_seconds / nullif(connected_seconds + disconnected_seconds, 0) AS uptime,
    (connected_seconds + disconnected_seconds)
    / nullif(connected_seconds + disconnected_seconds + unknown_seconds, 0) AS coverage
FROM totals
