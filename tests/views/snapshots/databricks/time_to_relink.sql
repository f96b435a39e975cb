WITH durations AS (
  SELECT
    names.provider_service,
    outages.duration_us,
    CASE WHEN outages.end_reason = 'relinked' THEN 1 ELSE 0 END AS relinked
  FROM main.cronofy._outages AS outages
  INNER JOIN main.cronofy._profile_names AS names
    ON outages.account_id = names.account_id
    AND outages.profile_type = names.profile_type
    AND outages.profile_id = names.profile_id
  WHERE
    NOT outages.broken_us IS NULL
), pooled AS (
  SELECT
    provider_service,
    duration_us,
    relinked
  FROM durations
  UNION ALL
  SELECT
    'all' AS provider_service,
    duration_us,
    relinked
  FROM durations
), ended AS (
  SELECT
    provider_service,
    duration_us,
    COUNT(*) AS outages,
    SUM(relinked) AS relinked
  FROM pooled
  GROUP BY
    provider_service,
    duration_us
), risks AS (
  SELECT
    provider_service,
    duration_us,
    relinked,
    SUM(outages) OVER (
      PARTITION BY provider_service
      ORDER BY duration_us DESC
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS at_risk
  FROM ended
), events AS (
  SELECT
    provider_service,
    duration_us,
    relinked,
    at_risk,
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
  provider_service,
  CAST(duration_us AS DOUBLE) / 1000000 AS seconds,
  CAST(at_risk AS BIGINT) AS at_risk,
  CAST(relinked AS BIGINT) AS relinked,
  CASE
    WHEN relinked = at_risk
    THEN 0
    ELSE EXP(
      SUM(log_survival) OVER (
        PARTITION BY provider_service
        ORDER BY duration_us
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      )
    )
  END AS survival
FROM events
