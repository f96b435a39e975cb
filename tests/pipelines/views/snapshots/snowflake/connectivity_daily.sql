WITH pieces AS (
  SELECT
    intervals.*,
    days.day,
    CAST((
      DATEDIFF(
        MICROSECOND,
        GREATEST_IGNORE_NULLS(intervals.start_at, days.start_at),
        LEAST_IGNORE_NULLS(intervals.end_at, days.end_at)
      ) / CAST(1000000 AS DOUBLE)
    ) AS DECIMAL(18, 6)) AS seconds
  FROM analytics.cronofy.profile_intervals AS intervals
  INNER JOIN analytics.cronofy._days AS days
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
    CAST(SUM(CASE state WHEN 'connected' THEN seconds ELSE 0 END) AS DOUBLE) AS connected_seconds,
    CAST(SUM(CASE state WHEN 'disconnected' THEN seconds ELSE 0 END) AS DOUBLE) AS disconnected_seconds,
    CAST(SUM(CASE state WHEN 'unknown' THEN seconds ELSE 0 END) AS DOUBLE) AS unknown_seconds,
    CAST(SUM(CASE state WHEN 'removed' THEN seconds ELSE 0 END) AS DOUBLE) AS removed_seconds
  FROM pieces
  GROUP BY
    account_id,
    profile_type,
    profile_id,
    day
)
SELECT
  *,
  connected_seconds / NULLIF(connected_seconds + disconnected_seconds, 0) AS uptime,
  (
    connected_seconds + disconnected_seconds
  ) / NULLIF(connected_seconds + disconnected_seconds + unknown_seconds, 0) AS coverage
FROM totals
