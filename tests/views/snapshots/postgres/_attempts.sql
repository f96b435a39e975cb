SELECT
  poll_id,
  run_id,
  token_key,
  endpoint,
  outcome,
  CAST(EXTRACT(EPOCH FROM polled_at) * 1000000 AS BIGINT) AS polled_us,
  CAST(EXTRACT(EPOCH FROM polled_at) * 1000000 AS BIGINT) - CAST(EXTRACT(EPOCH FROM polled_at) * 1000000 AS BIGINT) % 86400000000 AS day_us
FROM cronofy.polls
WHERE
  NOT polled_at IS NULL
