WITH totals AS (
  SELECT
    provider,
    MAX(provider_service) AS provider_service,
    day,
    COUNT(
      CASE WHEN connected_seconds + disconnected_seconds + unknown_seconds > 0 THEN 1 END
    ) AS profiles,
    CAST(SUM(CAST(connected_seconds AS NUMERIC)) AS FLOAT64) AS connected_seconds,
    CAST(SUM(CAST(disconnected_seconds AS NUMERIC)) AS FLOAT64) AS disconnected_seconds,
    CAST(SUM(CAST(unknown_seconds AS NUMERIC)) AS FLOAT64) AS unknown_seconds,
    CAST(SUM(CAST(removed_seconds AS NUMERIC)) AS FLOAT64) AS removed_seconds
  FROM `my-project`.cronofy.connectivity_daily
  GROUP BY
    provider,
    day
)
SELECT
  *,
  connected_seconds / NULLIF(connected_seconds + disconnected_seconds, 0) AS uptime,
  (
    connected_seconds + disconnected_seconds
  ) / NULLIF(connected_seconds + disconnected_seconds + unknown_seconds, 0) AS coverage
FROM totals
