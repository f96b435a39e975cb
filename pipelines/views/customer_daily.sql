-- customer_daily: one row per customer, e-mail domain and UTC day.
-- connectivity_daily added up over the profiles of a customer's accounts.
--
-- customer, email_domain, day
-- accounts: those with a profile that was not removed all day
-- profiles: those that were not removed all day
-- connected_seconds, disconnected_seconds, unknown_seconds, removed_seconds: of all profiles together
-- uptime: connected / (connected + disconnected); null if that is 0
-- coverage: (connected + disconnected) / (all but removed); null if that is 0
WITH totals AS (
    SELECT
        customer, email_domain, day,
        count(
            DISTINCT CASE WHEN connected_seconds + disconnected_seconds + unknown_seconds > 0 THEN account_id END
        ) AS accounts,
        count(CASE WHEN connected_seconds + disconnected_seconds + unknown_seconds > 0 THEN 1 END) AS profiles,
        -- decimals add up to the same in any order
        CAST(sum(CAST(connected_seconds AS DECIMAL(18, 6))) AS DOUBLE) AS connected_seconds,
        CAST(sum(CAST(disconnected_seconds AS DECIMAL(18, 6))) AS DOUBLE) AS disconnected_seconds,
        CAST(sum(CAST(unknown_seconds AS DECIMAL(18, 6))) AS DOUBLE) AS unknown_seconds,
        CAST(sum(CAST(removed_seconds AS DECIMAL(18, 6))) AS DOUBLE) AS removed_seconds
    FROM connectivity_daily
    LEFT JOIN _accounts USING (account_id)
    GROUP BY customer, email_domain, day
)
SELECT
    *,
    connected_seconds / nullif(connected_seconds + disconnected_seconds, 0) AS uptime,
    (connected_seconds + disconnected_seconds)
    / nullif(connected_seconds + disconnected_seconds + unknown_seconds, 0) AS coverage
FROM totals
