-- customer_health: one row per customer, e-mail domain and period (7d, 30d, all) counted back from as_of.
-- as_of is the newest polled_at. Rates are null below 20 profiles; the seconds add up to any other grouping.
--
-- customer, email_domain
-- period: 7d, 30d or all
-- accounts, profiles: those that were not removed all through the period
-- outages_started: outages first seen in the period, without those that were already down when first seen
-- connected_seconds, disconnected_seconds, unknown_seconds: of all profiles together
-- disconnections_per_1000_days: outages_started per 1000 connected profile-days; null if there were none
-- uptime: connected / (connected + disconnected); null if that is 0
-- coverage: (connected + disconnected) / (all but removed); null if that is 0
WITH account_outages AS (
    SELECT account_id, period, count(*) AS outages_started
    FROM outages
    INNER JOIN _periods ON first_seen_at >= from_at
    WHERE started_after IS NOT NULL
    GROUP BY account_id, period
),
account_times AS (
    SELECT
        account_id, period,
        count(*) AS profiles,
        sum(connected_seconds) AS connected_seconds,
        sum(disconnected_seconds) AS disconnected_seconds,
        sum(unknown_seconds) AS unknown_seconds
    FROM _profile_times
    GROUP BY account_id, period
),
totals AS (
    SELECT
        customer, email_domain, period,
        count(profiles) AS accounts,
        CAST(coalesce(sum(profiles), 0) AS BIGINT) AS profiles,
        CAST(coalesce(sum(outages_started), 0) AS BIGINT) AS outages_started,
        CAST(coalesce(sum(connected_seconds), 0) AS DOUBLE) AS connected_seconds,
        CAST(coalesce(sum(disconnected_seconds), 0) AS DOUBLE) AS disconnected_seconds,
        CAST(coalesce(sum(unknown_seconds), 0) AS DOUBLE) AS unknown_seconds
    FROM _accounts
    CROSS JOIN _periods
    LEFT JOIN account_times USING (account_id, period)
    LEFT JOIN account_outages USING (account_id, period)
    GROUP BY customer, email_domain, period
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
