SELECT
  DATE_PART(EPOCH_MICROSECOND, MAX(polled_at)) AS as_of_us
FROM analytics.cronofy.polls
