-- time_to_relink: one row per provider, and for 'all' of them, and duration at which somebody relinked.
-- Kaplan-Meier: the share of outages that last longer than `seconds`. Outages that were already down when first seen
-- are left out. Open outages and those that ended by removal are censored at their `seconds`; at equal seconds the
-- censored stay at risk.
--
-- provider, provider_service: or 'all'
-- seconds: duration of an outage from first_seen_at to ended_at
-- at_risk: outages that lasted at least that long
-- relinked: outages that were relinked after exactly that long
-- survival: estimated share of outages that last longer
WITH ended AS (
    SELECT
        coalesce(provider, 'all') AS provider,
        CASE WHEN provider IS NULL THEN 'all' ELSE max(provider_service) END AS provider_service,
        seconds,
        count(*) AS outages,
        count(CASE end_reason WHEN 'relinked' THEN 1 END) AS relinked
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
        CASE WHEN relinked < at_risk THEN ln(CAST(at_risk - relinked AS DOUBLE) / at_risk) ELSE 0 END AS log_survival
    FROM risks
    WHERE relinked > 0
)
SELECT
    provider, provider_service, seconds,
    CAST(at_risk AS BIGINT) AS at_risk,
    relinked,
    CASE WHEN relinked = at_risk THEN 0 ELSE
        exp(sum(log_survival) OVER (PARTITION BY provider ORDER BY seconds ROWS UNBOUNDED PRECEDING))
    END AS survival
FROM events
