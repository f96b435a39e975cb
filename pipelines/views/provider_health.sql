-- provider_health: one row per provider and period (7d, 30d, all) counted back from as_of.
-- as_of is the newest polled_at. Rates are null below 20 profiles; the seconds add up to any other grouping. A
-- conferencing provider has a row of its own, in which provider_service is null.
--
-- provider, provider_service
-- period: 7d, 30d or all
-- window: the same as period; a reserved word, so write it in double quotes
-- profiles: those that were not removed all through the period
-- outages_started: outages first seen in the period, without those that were already down when first seen
-- connected_seconds, disconnected_seconds, unknown_seconds: of all profiles together
-- disconnections_per_1000_days: outages_started per 1000 connected profile-days; null if there were none
-- uptime: connected / (connected + disconnected); null if that is 0
-- coverage: (connected + disconnected) / (all but removed); null if that is 0
WITH provider_times AS (
    SELECT
        provider, period,
        count(*) AS profiles,
        CAST(sum(connected_seconds) AS DOUBLE) AS connected_seconds,
        CAST(sum(disconnected_seconds) AS DOUBLE) AS disconnected_seconds,
        CAST(sum(unknown_seconds) AS DOUBLE) AS unknown_seconds
    FROM _profile_times
    GROUP BY provider, period
),
provider_outages AS (
    SELECT provider, period, count(*) AS outages_started
    FROM outages
    INNER JOIN _periods ON first_seen_at >= from_at
    WHERE started_after IS NOT NULL
    GROUP BY provider, period
),
totals AS (
    SELECT
        provider, provider_service, period,
        period AS "window",
        coalesce(profiles, 0) AS profiles,
        coalesce(outages_started, 0) AS outages_started,
        coalesce(connected_seconds, 0) AS connected_seconds,
        coalesce(disconnected_seconds, 0) AS disconnected_seconds,
        coalesce(unknown_seconds, 0) AS unknown_seconds
    FROM (SELECT provider, max(provider_service) AS provider_service FROM _state_runs GROUP BY provider) AS providers
    CROSS JOIN _periods
    LEFT JOIN provider_times USING (provider, period)
    LEFT JOIN provider_outages USING (provider, period)
)
SELECT
    *,
    CASE WHEN profiles >= 20 THEN 1000 * outages_started / nullif(connected_seconds / 86400, 0) END
        AS disconnections_per_1000_days,
    CASE WHEN profiles >= 20 THEN connected_seconds / nullif(connected_seconds + disconnected_seconds, 0) END
        AS uptime,
    CASE WHEN profiles >= 20 THEN
        (connected_seconds + disconnected_seconds)
        / nullif(connected_seconds + disconnected_seconds + unknown_seconds, 0)
    END AS coverage
FROM totals
