WITH pieces AS (
  SELECT
    intervals.*,
    days.day,
    CAST((
      DATEDIFF(
        MICROSECOND,
        GREATEST(intervals.start_at, days.start_at) AT TIME ZONE 'UTC',
        LEAST(intervals.end_at, days.end_at) AT TIME ZONE 'UTC'
      ) / CAST(1000000 AS DOUBLE PRECISION)
    ) AS DECIMAL(18, 6)) AS seconds
  FROM cronofy.profile_intervals AS intervals
  INNER JOIN cronofy._days AS days
    ON intervals.start_at < days.end_at AND intervals.end_at > days.start_at
), totals AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    MAX(provider) AS provider,
    MAX(provider_name) AS provider_name,
    MAX(provider_service) AS provider_service,
    day,
    CAST(SUM(CASE state WHEN 'connected' THEN seconds ELSE 0 END) AS DOUBLE PRECISION) AS connected_seconds,
    CAST(SUM(CASE state WHEN 'disconnected' THEN seconds ELSE 0 END) AS DOUBLE PRECISION) AS disconnected_seconds,
    CAST(SUM(CASE state WHEN 'unknown' THEN seconds ELSE 0 END) AS DOUBLE PRECISION) AS unknown_seconds,
    CAST(SUM(CASE state WHEN 'removed' THEN seconds ELSE 0 END) AS DOUBLE PRECISION) AS removed_seconds
  FROM pieces
  GROUP BY
    account_id,
    profile_type,
    profile_id,
    day
)
SELECT
  *,
  CAST(connected_seconds AS DOUBLE PRECISION) / NULLIF(connected_seconds + disconnected_seconds, 0) AS uptime,
  CAST((
    connected_seconds + disconnected_seconds
  ) AS DOUBLE PRECISION) / NULLIF(connected_seconds + disconnected_seconds + unknown_seconds, 0) AS coverage
FROM totals
