SELECT
  daily.account_id,
  daily.profile_type,
  daily.profile_id,
  names.provider_name,
  names.provider_service,
  CAST('1970-01-01' AS DATE) + CAST(daily.day_us / 86400000000 AS INT) AS day,
  CAST(daily.connected_us AS DOUBLE) / 1000000 AS connected_seconds,
  CAST(daily.disconnected_us AS DOUBLE) / 1000000 AS disconnected_seconds,
  CAST(daily.unknown_us AS DOUBLE) / 1000000 AS unknown_seconds,
  CAST(daily.removed_us AS DOUBLE) / 1000000 AS removed_seconds,
  CASE
    WHEN daily.connected_us + daily.disconnected_us > 0
    THEN CAST(daily.connected_us AS DOUBLE) / (
      daily.connected_us + daily.disconnected_us
    )
  END AS uptime,
  CASE
    WHEN daily.connected_us + daily.disconnected_us + daily.unknown_us > 0
    THEN CAST(daily.connected_us + daily.disconnected_us AS DOUBLE) / (
      daily.connected_us + daily.disconnected_us + daily.unknown_us
    )
  END AS coverage
FROM main.cronofy._daily_states AS daily
INNER JOIN main.cronofy._profile_names AS names
  ON daily.account_id = names.account_id
  AND daily.profile_type = names.profile_type
  AND daily.profile_id = names.profile_id
