SELECT
  token_key,
  account_id,
  endpoint,
  last_polled_at,
  last_ok_at,
  last_outcome,
  failing_since,
  COALESCE(consecutive_failures, 0) AS consecutive_failures
FROM analytics.cronofy.token_status
WHERE
  NOT endpoint IS NULL
