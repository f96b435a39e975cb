WITH ended AS (
  SELECT
    COALESCE(provider, 'all') AS provider,
    CASE WHEN provider IS NULL THEN 'all' ELSE MAX(provider_service) END AS provider_service,
    seconds,
    COUNT(*) AS outages,
    COUNT(CASE end_reason WHEN 'relinked' THEN 1 END) AS relinked
  FROM outages
  WHERE
    NOT started_after IS NULL
  GROUP BY
    GROUPING SETS (
      (provider, seconds),
      (
        seconds
      )
    )
), risks AS (
  SELECT
    *,
    SUM(outages) OVER (
      PARTITION BY provider
      ORDER BY seconds DESC
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS at_risk
  FROM ended
), events AS (
  SELECT
    *,
    CASE
      WHEN relinked < at_risk
      THEN LN(CAST(at_risk - relinked AS DOUBLE) / at_risk)
      ELSE 0
    END AS log_survival
  FROM risks
  WHERE
    relinked > 0
)
SELECT
  provider,
  provider_service,
  seconds,
  CAST(at_risk AS BIGINT) AS at_risk,
  relinked,
  CASE
    WHEN relinked = at_risk
    THEN 0
    ELSE EXP(
      SUM(log_survival) OVER (
        PARTITION BY provider
        ORDER BY seconds
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      )
    )
  END AS survival
FROM events
