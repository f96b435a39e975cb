-- customer_daily: one row per customer, e-mail domain and UTC day.
-- connectivity_daily added up over the profiles of a customer's accounts.
--
-- customer, email_domain, day
-- accounts: those with a profile that was not removed all day
-- profiles: those that were not removed all day
-- connected_seconds, disconnected_seconds, unknown_seconds, removed_seconds: of all profiles together
-- uptime: connected / (connected + disconnected); null if that is 0
-- coverage: (connected + disconnected) / (all but removed); null if that is 0
WITH steps AS (
    SELECT customer, email_domain, day, quantity, step
    FROM _day_steps
    LEFT JOIN _accounts USING (account_id)
    UNION ALL
    -- a row for every day
    SELECT customer, email_domain, day, NULL AS quantity, 0 AS step
    FROM (SELECT DISTINCT customer, email_domain FROM _accounts) AS customers
    CROSS JOIN _days
),
steps_by_day AS (
    SELECT
        customer, email_domain, day,
        sum(CASE quantity WHEN 'accounts' THEN step ELSE 0 END) AS accounts,
        sum(CASE quantity WHEN 'profiles' THEN step ELSE 0 END) AS profiles,
        sum(CASE quantity WHEN 'connected' THEN step ELSE 0 END) AS connected,
        sum(CASE quantity WHEN 'disconnected' THEN step ELSE 0 END) AS disconnected,
        sum(CASE quantity WHEN 'unknown' THEN step ELSE 0 END) AS unknown,
        sum(CASE quantity WHEN 'removed' THEN step ELSE 0 END) AS removed
    FROM steps
    GROUP BY customer, email_domain, day
),
running AS (
    SELECT
        customer, email_domain, day,
        sum(accounts) OVER (PARTITION BY customer, email_domain ORDER BY day ROWS UNBOUNDED PRECEDING) AS accounts,
        sum(profiles) OVER (PARTITION BY customer, email_domain ORDER BY day ROWS UNBOUNDED PRECEDING) AS profiles,
        sum(connected) OVER (PARTITION BY customer, email_domain ORDER BY day ROWS UNBOUNDED PRECEDING) AS connected,
        sum(disconnected) OVER (PARTITION BY customer, email_domain ORDER BY day ROWS UNBOUNDED PRECEDING)
            AS disconnected,
        sum(unknown) OVER (PARTITION BY customer, email_domain ORDER BY day ROWS UNBOUNDED PRECEDING) AS unknown,
        sum(removed) OVER (PARTITION BY customer, email_domain ORDER BY day ROWS UNBOUNDED PRECEDING) AS removed
    FROM steps_by_day
),
totals AS (
    SELECT
        customer, email_domain, day,
        CAST(accounts AS BIGINT) AS accounts,
        CAST(profiles AS BIGINT) AS profiles,
        -- exact to the microsecond, whatever a warehouse adds up with
        CAST(CAST(connected AS DECIMAL(18, 6)) AS DOUBLE) AS connected_seconds,
        CAST(CAST(disconnected AS DECIMAL(18, 6)) AS DOUBLE) AS disconnected_seconds,
        CAST(CAST(unknown AS DECIMAL(18, 6)) AS DOUBLE) AS unknown_seconds,
        CAST(CAST(removed AS DECIMAL(18, 6)) AS DOUBLE) AS removed_seconds
    FROM running
)
SELECT
    *,
    connected_seconds / nullif(connected_seconds + disconnected_seconds, 0) AS uptime,
    (connected_seconds + disconnected_seconds)
    / nullif(connected_seconds + disconnected_seconds + unknown_seconds, 0) AS coverage
FROM totals
WHERE connected_seconds + disconnected_seconds + unknown_seconds + removed_seconds > 0
