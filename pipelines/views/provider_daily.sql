-- provider_daily: one row per provider and UTC day.
-- connectivity_daily added up over the profiles of a provider. A conferencing provider has a row of its own, in which
-- provider_service is null.
--
-- provider
-- provider_service
-- day
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
        sum(connected_seconds) AS connected_seconds,
        sum(disconnected_seconds) AS disconnected_seconds,
        sum(unknown_seconds) AS unknown_seconds,
        sum(removed_seconds) AS removed_seconds
    FROM connectivity_daily
    GROUP BY provider, day
)
SELECT
    *,
    connected_seconds / nullif(connected_seconds + disconnected_seconds, 0) AS uptime,
    (connected_seconds + disconnected_seconds)
    / nullif(connected_seconds + disconnected_seconds + unknown_seconds, 0) AS coverage
FROM totals
