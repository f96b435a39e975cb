-- time_to_relink: one row per provider, and for 'all' of them, and duration at which somebody relinked.
-- Kaplan-Meier: the share of outages that last longer than `seconds`. Outages that were already down when first seen
-- are left out. Who replaced a profile has relinked. Open outages and those that ended by removal are censored at
-- their `seconds`; at equal seconds the censored stay at risk.
--
-- provider, provider_service: or 'all'
-- seconds: duration of an outage from first_seen_at to ended_at
-- at_risk: outages that lasted at least that long
-- relinked: outages that were relinked after exactly that long
-- survival: estimated share of outages that last longer
-- survival_lower, survival_upper: its 95 % confidence band, by Greenwood's variance on the scale of log(-log); null where
--     survival is 0
WITH ended AS (
    SELECT
        coalesce(provider, 'all') AS provider,
        CASE WHEN provider IS NULL THEN 'all' ELSE max(provider_service) END AS provider_service,
        seconds,
        count(*) AS outages,
        count(CASE WHEN end_reason IN ('relinked', 'replaced') THEN 1 END) AS relinked
    FROM outages
    WHERE started_after IS NOT NULL
    GROUP BY GROUPING SETS ((provider, seconds), (seconds))
),
risks AS (
    SELECT *, sum(outages) OVER (PARTITION BY provider ORDER BY seconds DESC ROWS UNBOUNDED PRECEDING) AS at_risk
    FROM ended
),
-- once all at risk have relinked nobody is left, so zero can only be the last value and needs no logarithm
events AS (
    SELECT
        *,
        CASE WHEN relinked < at_risk THEN ln(CAST(at_risk - relinked AS DOUBLE) / at_risk) ELSE 0 END AS log_survival,
        CASE WHEN relinked < at_risk THEN CAST(relinked AS DOUBLE) / at_risk / (at_risk - relinked) ELSE 0 END
            AS variance
    FROM risks
    WHERE relinked > 0
),
sums AS (
    SELECT
        provider, provider_service, seconds, at_risk, relinked,
        sum(log_survival) OVER (PARTITION BY provider ORDER BY seconds ROWS UNBOUNDED PRECEDING) AS log_survival,
        sum(variance) OVER (PARTITION BY provider ORDER BY seconds ROWS UNBOUNDED PRECEDING) AS variance
    FROM events
),
bands AS (
    SELECT
        *,
        CASE WHEN relinked < at_risk THEN exp(1.959963984540054 * sqrt(variance) / log_survival) END AS factor
    FROM sums
)
SELECT
    provider, provider_service, seconds,
    CAST(at_risk AS BIGINT) AS at_risk,
    relinked,
    CASE WHEN relinked = at_risk THEN 0 ELSE exp(log_survival) END AS survival,
    exp(log_survival / factor) AS survival_lower,
    exp(log_survival * factor) AS survival_upper
FROM bands
