SELECT
  UNIX_MICROS(MAX(polled_at)) AS as_of_us
FROM main.cronofy.polls
