SELECT
  MAX(last_polled_at) AS as_of
FROM runs
