-- provider_daily: one row per provider and UTC day.
-- connectivity_daily added up over the profiles of a provider. A conferencing provider has a row of its own, in which
-- provider_service is null.
--
-- provider, provider_service, day
-- profiles: those that were not removed all day
-- connected_seconds, disconnected_seconds, unknown_seconds, removed_seconds: of all profiles together
-- uptime: connected / (connected + disconnected); null if that is 0
-- coverage: (connected + disconnected) / (all but removed); null if that is 0
WITH providers AS (
    SELECT provider, max(provider_service) AS provider_service FROM _state_runs GROUP BY provider
),
steps AS (
    SELECT provider, day, quantity, step FROM _day_steps
    UNION ALL
    -- a row for every day
    SELECT provider, day, NULL AS quantity, 0 AS step
    FROM providers
    CROSS JOIN _days
),
steps_by_day AS (
    SELECT
        provider, day,
        sum(CASE quantity WHEN 'profiles' THEN step ELSE 0 END) AS profiles,
        sum(CASE quantity WHEN 'connected' THEN step ELSE 0 END) AS connected,
        sum(CASE quantity WHEN 'disconnected' THEN step ELSE 0 END) AS disconnected,
        sum(CASE quantity WHEN 'unknown' THEN step ELSE 0 END) AS unknown,
        sum(CASE quantity WHEN 'removed' THEN step ELSE 0 END) AS removed
    FROM steps
    GROUP BY provider, day
),
running AS (
    SELECT
        provider, day,
        sum(profiles) OVER (PARTITION BY provider ORDER BY day ROWS UNBOUNDED PRECEDING) AS profiles,
        sum(connected) OVER (PARTITION BY provider ORDER BY day ROWS UNBOUNDED PRECEDING) AS connected,
        sum(disconnected) OVER (PARTITION BY provider ORDER BY day ROWS UNBOUNDED PRECEDING) AS disconnected,
        sum(unknown) OVER (PARTITION BY provider ORDER BY day ROWS UNBOUNDED PRECEDING) AS unknown,
        sum(removed) OVER (PARTITION BY provider ORDER BY day ROWS UNBOUNDED PRECEDING) AS removed
    FROM steps_by_day
),
totals AS (
    SELECT
        provider, provider_service, day,
        CAST(profiles AS BIGINT) AS profiles,
        -- exact to the microsecond, whatever a warehouse adds up with
        CAST(CAST(connected AS DECIMAL(18, 6)) AS DOUBLE) AS connected_seconds,
        CAST(CAST(disconnected AS DECIMAL(18, 6)) AS DOUBLE) AS disconnected_seconds,
        CAST(CAST(unknown AS DECIMAL(18, 6)) AS DOUBLE) AS unknown_seconds,
        CAST(CAST(removed AS DECIMAL(18, 6)) AS DOUBLE) AS removed_seconds
    FROM running
    LEFT JOIN providers USING (provider)
)
SELECT
    *,
    connected_seconds / nullif(connected_seconds + disconnected_seconds, 0) AS uptime,
    (connected_seconds + disconnected_seconds)
    / nullif(connected_seconds + disconnected_seconds + unknown_seconds, 0) AS coverage
FROM totals
WHERE connected_seconds + disconnected_seconds + unknown_seconds + removed_seconds > 0
