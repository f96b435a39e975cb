WITH newest AS (
  SELECT
    account_id,
    MAX(CASE WHEN calendar = 1 THEN sampled_us END) AS calendar_us,
    MAX(CASE WHEN conferencing = 1 THEN sampled_us END) AS conferencing_us
  FROM cronofy._samples
  GROUP BY
    account_id
)
SELECT
  account_id,
  'calendar' AS profile_type,
  calendar_us AS newest_us
FROM newest
WHERE
  NOT calendar_us IS NULL
UNION ALL
SELECT
  account_id,
  'conferencing' AS profile_type,
  conferencing_us AS newest_us
FROM newest
WHERE
  NOT conferencing_us IS NULL
