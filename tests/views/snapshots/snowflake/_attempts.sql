SELECT
  poll_id,
  run_id,
  token_key,
  endpoint,
  outcome,
  DATE_PART(EPOCH_MICROSECOND, polled_at) AS polled_us,
  DATE_PART(EPOCH_MICROSECOND, polled_at) - DATE_PART(EPOCH_MICROSECOND, polled_at) % 86400000000 AS day_us
FROM analytics.cronofy.polls
WHERE
  NOT polled_at IS NULL
