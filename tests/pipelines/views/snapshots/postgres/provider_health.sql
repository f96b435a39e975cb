WITH periods AS (
  SELECT
    '7d' AS period,
    as_of - INTERVAL '168 HOURS' AS from_at
  FROM cronofy._as_of
  UNION ALL
  SELECT
    '30d' AS period,
    as_of - INTERVAL '720 HOURS' AS from_at
  FROM cronofy._as_of
  UNION ALL
  SELECT
    'all' AS period,
    CAST('1970-01-01 00:00:00+00' AS TIMESTAMPTZ) AS from_at
), pieces AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    provider,
    period,
    state,
    CAST(CAST(EXTRACT(EPOCH FROM end_at - GREATEST(start_at, from_at)) AS DOUBLE PRECISION) AS DECIMAL(18, 6)) AS seconds
  FROM cronofy.profile_intervals
  INNER JOIN periods
    ON end_at > from_at
  WHERE
    state <> 'removed'
), profile_times AS (
  SELECT
    provider,
    period,
    SUM(CASE state WHEN 'connected' THEN seconds ELSE 0 END) AS connected_seconds,
    SUM(CASE state WHEN 'disconnected' THEN seconds ELSE 0 END) AS disconnected_seconds,
    SUM(CASE state WHEN 'unknown' THEN seconds ELSE 0 END) AS unknown_seconds
  FROM pieces
  GROUP BY
    account_id,
    profile_type,
    profile_id,
    provider,
    period
), provider_times AS (
  SELECT
    provider,
    period,
    COUNT(*) AS profiles,
    CAST(SUM(connected_seconds) AS DOUBLE PRECISION) AS connected_seconds,
    CAST(SUM(disconnected_seconds) AS DOUBLE PRECISION) AS disconnected_seconds,
    CAST(SUM(unknown_seconds) AS DOUBLE PRECISION) AS unknown_seconds
  FROM profile_times
  GROUP BY
    provider,
    period
), provider_outages AS (
  SELECT
    provider,
    period,
    COUNT(*) AS outages_started
  FROM cronofy.outages
  INNER JOIN periods
    ON first_seen_at >= from_at
  WHERE
    NOT started_after IS NULL
  GROUP BY
    provider,
    period
), totals AS (
  SELECT
    provider,
    provider_service,
    period,
    period AS "window",
    COALESCE(profiles, 0) AS profiles,
    COALESCE(outages_started, 0) AS outages_started,
    COALESCE(connected_seconds, 0) AS connected_seconds,
    COALESCE(disconnected_seconds, 0) AS disconnected_seconds,
    COALESCE(unknown_seconds, 0) AS unknown_seconds
  FROM (
    SELECT
      provider,
      MAX(provider_service) AS provider_service
    FROM cronofy._state_runs
    GROUP BY
      provider
  ) AS providers
  CROSS JOIN periods
  LEFT JOIN provider_times
    USING (provider, period)
  LEFT JOIN provider_outages
    USING (provider, period)
)
SELECT
  *,
  CASE
    WHEN profiles >= 20
    THEN CAST(1000 * outages_started AS DOUBLE PRECISION) / NULLIF(CAST(connected_seconds AS DOUBLE PRECISION) / 86400, 0)
  END AS disconnections_per_1000_days,
  CASE
    WHEN profiles >= 20
    THEN CAST(connected_seconds AS DOUBLE PRECISION) / NULLIF(connected_seconds + disconnected_seconds, 0)
  END AS uptime,
  CASE
    WHEN profiles >= 20
    THEN CAST((
      connected_seconds + disconnected_seconds
    ) AS DOUBLE PRECISION) / NULLIF(connected_seconds + disconnected_seconds + unknown_seconds, 0)
  END AS coverage
FROM totals
