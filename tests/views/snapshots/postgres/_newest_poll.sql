SELECT
  CAST(EXTRACT(EPOCH FROM MAX(polled_at)) * 1000000 AS BIGINT) AS as_of_us
FROM cronofy.polls
