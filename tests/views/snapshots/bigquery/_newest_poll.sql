SELECT
  UNIX_MICROS(MAX(polled_at)) AS as_of_us
FROM `my-project`.cronofy.polls
