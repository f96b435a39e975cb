WITH time_windows AS (
  SELECT
    '7d' AS time_window,
    as_of_us - 7 * 86400000000 AS from_us
  FROM _newest_poll
  UNION ALL
  SELECT
    '30d' AS time_window,
    as_of_us - 30 * 86400000000 AS from_us
  FROM _newest_poll
  UNION ALL
  SELECT
    'all' AS time_window,
    0 AS from_us
  FROM _newest_poll
), names AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    provider_service
  FROM _profile_names
), providers AS (
  SELECT DISTINCT
    provider_service
  FROM names
), clipped AS (
  SELECT
    intervals.account_id,
    intervals.profile_type,
    intervals.profile_id,
    time_windows.time_window,
    intervals.state,
    intervals.end_us - CASE
      WHEN intervals.start_us > time_windows.from_us
      THEN intervals.start_us
      ELSE time_windows.from_us
    END AS length_us
  FROM _intervals AS intervals
  INNER JOIN time_windows
    ON intervals.end_us > time_windows.from_us
  WHERE
    intervals.state <> 'removed'
), profile_times AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    time_window,
    SUM(CASE WHEN state = 'connected' THEN length_us ELSE 0 END) AS connected_us,
    SUM(CASE WHEN state = 'disconnected' THEN length_us ELSE 0 END) AS disconnected_us,
    SUM(CASE WHEN state = 'unknown' THEN length_us ELSE 0 END) AS unknown_us
  FROM clipped
  GROUP BY
    account_id,
    profile_type,
    profile_id,
    time_window
), provider_times AS (
  SELECT
    names.provider_service,
    profile_times.time_window,
    COUNT(*) AS profiles,
    CAST(SUM(profile_times.connected_us) AS DOUBLE) AS connected_us,
    CAST(SUM(profile_times.disconnected_us) AS DOUBLE) AS disconnected_us,
    CAST(SUM(profile_times.unknown_us) AS DOUBLE) AS unknown_us
  FROM profile_times
  INNER JOIN names
    ON profile_times.account_id = names.account_id
    AND profile_times.profile_type = names.profile_type
    AND profile_times.profile_id = names.profile_id
  GROUP BY
    names.provider_service,
    profile_times.time_window
), provider_outages AS (
  SELECT
    names.provider_service,
    time_windows.time_window,
    COUNT(*) AS outages_started
  FROM _state_runs AS runs
  INNER JOIN time_windows
    ON runs.start_us >= time_windows.from_us
  INNER JOIN names
    ON runs.account_id = names.account_id
    AND runs.profile_type = names.profile_type
    AND runs.profile_id = names.profile_id
  WHERE
    runs.state = 'disconnected' AND NOT runs.previous_state IS NULL
  GROUP BY
    names.provider_service,
    time_windows.time_window
), totals AS (
  SELECT
    providers.provider_service,
    time_windows.time_window,
    COALESCE(provider_times.profiles, 0) AS profiles,
    COALESCE(provider_outages.outages_started, 0) AS outages_started,
    COALESCE(provider_times.connected_us, 0) AS connected_us,
    COALESCE(provider_times.disconnected_us, 0) AS disconnected_us,
    COALESCE(provider_times.unknown_us, 0) AS unknown_us
  FROM providers
  CROSS JOIN time_windows
  LEFT JOIN provider_times
    ON COALESCE(providers.provider_service, '') = COALESCE(provider_times.provider_service, '')
    AND time_windows.time_window = provider_times.time_window
  LEFT JOIN provider_outages
    ON COALESCE(providers.provider_service, '') = COALESCE(provider_outages.provider_service, '')
    AND time_windows.time_window = provider_outages.time_window
)
SELECT
  provider_service,
  time_window AS "window",
  CAST(profiles AS BIGINT) AS profiles,
  CAST(outages_started AS BIGINT) AS outages_started,
  connected_us / 1000000 AS connected_seconds,
  disconnected_us / 1000000 AS disconnected_seconds,
  unknown_us / 1000000 AS unknown_seconds,
  CASE
    WHEN profiles >= 20 AND connected_us > 0
    THEN 1000 * outages_started / (
      connected_us / 86400000000
    )
  END AS disconnections_per_1000_days,
  CASE
    WHEN profiles >= 20 AND connected_us + disconnected_us > 0
    THEN connected_us / (
      connected_us + disconnected_us
    )
  END AS uptime,
  CASE
    WHEN profiles >= 20 AND connected_us + disconnected_us + unknown_us > 0
    THEN (
      connected_us + disconnected_us
    ) / (
      connected_us + disconnected_us + unknown_us
    )
  END AS coverage
FROM totals
