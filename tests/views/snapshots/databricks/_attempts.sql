SELECT
  poll_id,
  run_id,
  token_key,
  endpoint,
  outcome,
  UNIX_MICROS(polled_at) AS polled_us,
  UNIX_MICROS(polled_at) - UNIX_MICROS(polled_at) % 86400000000 AS day_us
FROM main.cronofy.polls
WHERE
  NOT polled_at IS NULL
