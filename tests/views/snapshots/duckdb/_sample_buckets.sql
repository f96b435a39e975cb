SELECT
  account_id,
  bucket_us,
  MIN(CASE WHEN calendar = 1 THEN sampled_us END) AS first_calendar_us,
  MAX(CASE WHEN calendar = 1 THEN sampled_us END) AS last_calendar_us,
  MIN(CASE WHEN conferencing = 1 THEN sampled_us END) AS first_conferencing_us,
  MAX(CASE WHEN conferencing = 1 THEN sampled_us END) AS last_conferencing_us
FROM _samples
GROUP BY
  account_id,
  bucket_us
