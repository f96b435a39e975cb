-- relink_cohorts: one row per UTC month in which outages were first seen, and provider, and 'all' of them.
-- Kaplan-Meier, as in time_to_relink: the share of the cohort's outages that were relinked within so many days. Outages
-- that were already down when first seen are left out. Below 20 outages the shares are null.
--
-- month: its first day
-- provider: or 'all'
-- outages: those first seen in the month
-- followed_days: the longest that any of them was followed; a share for longer than that says no more than one for that
-- relinked_1d, relinked_3d, relinked_7d, relinked_14d: share relinked within 1, 3, 7 and 14 days; null below 20 outages
WITH dated AS (
    SELECT CAST(first_seen_at AT TIME ZONE 'UTC' AS DATE) AS day, provider, seconds, end_reason
    FROM outages
    WHERE started_after IS NOT NULL
),
cohorts AS (
    SELECT CAST(date_trunc('month', day) AS DATE) AS month, provider, seconds, end_reason FROM dated
),
members AS (
    SELECT month, provider, seconds, end_reason FROM cohorts
    UNION ALL
    SELECT month, 'all' AS provider, seconds, end_reason FROM cohorts
),
ended AS (
    SELECT
        month, provider, seconds,
        count(*) AS outages,
        count(CASE WHEN end_reason IN ('relinked', 'replaced') THEN 1 END) AS relinked
    FROM members
    GROUP BY month, provider, seconds
),
risks AS (
    SELECT
        *,
        sum(outages) OVER (
            PARTITION BY month, provider ORDER BY seconds DESC ROWS UNBOUNDED PRECEDING
        ) AS at_risk
    FROM ended
),
steps AS (
    SELECT
        *,
        -- once all at risk have relinked nobody is left; zero has no logarithm
        CASE WHEN relinked = at_risk THEN 1 ELSE 0 END AS is_last,
        CASE WHEN relinked < at_risk THEN ln(CAST(at_risk - relinked AS DOUBLE) / at_risk) ELSE 0 END AS log_survival
    FROM risks
),
totals AS (
    SELECT
        month, provider,
        CAST(sum(outages) AS BIGINT) AS outages,
        max(seconds) / 86400 AS followed_days,
        exp(sum(CASE WHEN seconds <= 86400 THEN log_survival ELSE 0 END))
        * min(CASE WHEN seconds <= 86400 THEN 1 - is_last ELSE 1 END) AS survival_1d,
        exp(sum(CASE WHEN seconds <= 259200 THEN log_survival ELSE 0 END))
        * min(CASE WHEN seconds <= 259200 THEN 1 - is_last ELSE 1 END) AS survival_3d,
        exp(sum(CASE WHEN seconds <= 604800 THEN log_survival ELSE 0 END))
        * min(CASE WHEN seconds <= 604800 THEN 1 - is_last ELSE 1 END) AS survival_7d,
        exp(sum(CASE WHEN seconds <= 1209600 THEN log_survival ELSE 0 END))
        * min(CASE WHEN seconds <= 1209600 THEN 1 - is_last ELSE 1 END) AS survival_14d
    FROM steps
    GROUP BY month, provider
)
SELECT
    month, provider, outages, followed_days,
    CASE WHEN outages >= 20 THEN 1 - survival_1d END AS relinked_1d,
    CASE WHEN outages >= 20 THEN 1 - survival_3d END AS relinked_3d,
    CASE WHEN outages >= 20 THEN 1 - survival_7d END AS relinked_7d,
    CASE WHEN outages >= 20 THEN 1 - survival_14d END AS relinked_14d
FROM totals
