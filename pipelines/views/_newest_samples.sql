-- _newest_samples: one row per account and profile type that was ever sampled.
--
-- account_id, profile_type
-- newest_us: its newest sample
WITH newest AS (
    SELECT
        account_id,
        max(CASE WHEN calendar = 1 THEN sampled_us END) AS calendar_us,
        max(CASE WHEN conferencing = 1 THEN sampled_us END) AS conferencing_us
    FROM _samples
    GROUP BY account_id
)
SELECT account_id, 'calendar' AS profile_type, calendar_us AS newest_us
FROM newest
WHERE calendar_us IS NOT NULL
UNION ALL
SELECT account_id, 'conferencing' AS profile_type, conferencing_us AS newest_us
FROM newest
WHERE conferencing_us IS NOT NULL
