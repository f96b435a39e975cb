SELECT
  poll_id,
  run_id,
  token_key,
  endpoint,
  outcome,
  DATEDIFF(MICROSECOND, CAST('1970-01-01' AS TIMESTAMP), polled_at AT TIME ZONE 'UTC') AS polled_us,
  DATEDIFF(MICROSECOND, CAST('1970-01-01' AS TIMESTAMP), polled_at AT TIME ZONE 'UTC') - DATEDIFF(MICROSECOND, CAST('1970-01-01' AS TIMESTAMP), polled_at AT TIME ZONE 'UTC') % 86400000000 AS day_us
FROM cronofy.polls
WHERE
  NOT polled_at IS NULL
