WITH totals AS (
  SELECT
    provider,
    MAX(provider_service) AS provider_service,
    day,
    COUNT(
      CASE WHEN connected_seconds + disconnected_seconds + unknown_seconds > 0 THEN 1 END
    ) AS profiles,
    CAST(SUM(CAST(connected_seconds AS DECIMAL(18, 6))) AS DOUBLE PRECISION) AS connected_seconds,
    CAST(SUM(CAST(disconnected_seconds AS DECIMAL(18, 6))) AS DOUBLE PRECISION) AS disconnected_seconds,
    CAST(SUM(CAST(unknown_seconds AS DECIMAL(18, 6))) AS DOUBLE PRECISION) AS unknown_seconds,
    CAST(SUM(CAST(removed_seconds AS DECIMAL(18, 6))) AS DOUBLE PRECISION) AS removed_seconds
  FROM cronofy.connectivity_daily
  GROUP BY
    provider,
    day
)
SELECT
  *,
  CAST(connected_seconds AS DOUBLE PRECISION) / NULLIF(connected_seconds + disconnected_seconds, 0) AS uptime,
  CAST((
    connected_seconds + disconnected_seconds
  ) AS DOUBLE PRECISION) / NULLIF(connected_seconds + disconnected_seconds + unknown_seconds, 0) AS coverage
FROM totals
