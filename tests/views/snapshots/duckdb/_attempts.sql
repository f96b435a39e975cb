SELECT
  poll_id,
  run_id,
  token_key,
  endpoint,
  outcome,
  EPOCH_US(polled_at) AS polled_us,
  EPOCH_US(polled_at) - EPOCH_US(polled_at) % 86400000000 AS day_us
FROM polls
WHERE
  NOT polled_at IS NULL
