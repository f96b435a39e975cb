WITH totals AS (
  SELECT
    names.provider_service,
    daily.day_us,
    SUM(
      CASE
        WHEN daily.connected_us + daily.disconnected_us + daily.unknown_us > 0
        THEN 1
        ELSE 0
      END
    ) AS profiles,
    CAST(SUM(daily.connected_us) AS DOUBLE PRECISION) AS connected_us,
    CAST(SUM(daily.disconnected_us) AS DOUBLE PRECISION) AS disconnected_us,
    CAST(SUM(daily.unknown_us) AS DOUBLE PRECISION) AS unknown_us,
    CAST(SUM(daily.removed_us) AS DOUBLE PRECISION) AS removed_us
  FROM cronofy._daily_states AS daily
  INNER JOIN cronofy._profile_names AS names
    ON daily.account_id = names.account_id
    AND daily.profile_type = names.profile_type
    AND daily.profile_id = names.profile_id
  GROUP BY
    names.provider_service,
    daily.day_us
)
SELECT
  provider_service,
  CAST('1970-01-01' AS DATE) + CAST(CAST(day_us AS DOUBLE PRECISION) / 86400000000 AS INT) AS day,
  CAST(profiles AS BIGINT) AS profiles,
  CAST(connected_us AS DOUBLE PRECISION) / 1000000 AS connected_seconds,
  CAST(disconnected_us AS DOUBLE PRECISION) / 1000000 AS disconnected_seconds,
  CAST(unknown_us AS DOUBLE PRECISION) / 1000000 AS unknown_seconds,
  CAST(removed_us AS DOUBLE PRECISION) / 1000000 AS removed_seconds,
  CASE
    WHEN connected_us + disconnected_us > 0
    THEN CAST(connected_us AS DOUBLE PRECISION) / (
      connected_us + disconnected_us
    )
  END AS uptime,
  CASE
    WHEN connected_us + disconnected_us + unknown_us > 0
    THEN CAST((
      connected_us + disconnected_us
    ) AS DOUBLE PRECISION) / (
      connected_us + disconnected_us + unknown_us
    )
  END AS coverage
FROM totals
