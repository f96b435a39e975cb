SELECT
  EPOCH_US(MAX(polled_at)) AS as_of_us
FROM polls
