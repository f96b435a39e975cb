-- stock_daily: one row per UTC day and provider: how many profiles there were at the day's end.
-- Counted at midnight, on the last day at as_of, the newest polled_at. An account that left is not counted from then
-- on.
--
-- day, provider
-- connected, disconnected, unknown
-- removed: profiles that were removed by then
-- accounts: accounts with a profile that was not removed
WITH intervals AS (
    SELECT
        account_id, provider, state, is_current,
        CAST(start_at AT TIME ZONE 'UTC' AS DATE) AS from_day,
        CAST(end_at AT TIME ZONE 'UTC' AS DATE) AS end_day,
        CAST(as_of AT TIME ZONE 'UTC' AS DATE) + 1 AS tomorrow,
        CASE WHEN left_at <= as_of THEN left_at END AS left_at,
        CAST(left_at AT TIME ZONE 'UTC' AS DATE) AS left_day
    FROM profile_intervals
    CROSS JOIN _as_of
    LEFT JOIN _accounts USING (account_id)
),
-- until_day: the first at whose end it is over, or the account has left
counted AS (
    SELECT
        account_id, provider, state, from_day,
        least(
            CASE WHEN is_current THEN tomorrow ELSE end_day END,
            CASE
                WHEN left_at IS NULL THEN tomorrow
                WHEN left_at > CAST(left_day AS TIMESTAMP) AT TIME ZONE 'UTC' THEN left_day
                ELSE left_day - 1
            END
        ) AS until_day
    FROM intervals
),
-- of the days on which an account has several profiles only those of the first count
of_accounts AS (
    SELECT
        provider, from_day, until_day,
        max(until_day) OVER (
            PARTITION BY account_id, provider
            ORDER BY from_day, until_day
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS counted_until
    FROM counted
    WHERE state <> 'removed'
),
standing AS (
    SELECT provider, state AS quantity, from_day, until_day FROM counted
    UNION ALL
    SELECT
        provider, 'accounts' AS quantity,
        greatest(from_day, coalesce(counted_until, from_day)) AS from_day, until_day
    FROM of_accounts
),
steps AS (
    SELECT provider, from_day AS day, quantity, 1 AS step FROM standing WHERE from_day < until_day
    UNION ALL
    SELECT provider, until_day AS day, quantity, -1 AS step FROM standing WHERE from_day < until_day
    UNION ALL
    -- a row for every day
    SELECT provider, day, NULL AS quantity, 0 AS step
    FROM (SELECT DISTINCT provider FROM counted) AS providers
    CROSS JOIN _days
),
steps_by_day AS (
    SELECT
        provider, day,
        sum(CASE quantity WHEN 'connected' THEN step ELSE 0 END) AS connected,
        sum(CASE quantity WHEN 'disconnected' THEN step ELSE 0 END) AS disconnected,
        sum(CASE quantity WHEN 'unknown' THEN step ELSE 0 END) AS unknown,
        sum(CASE quantity WHEN 'removed' THEN step ELSE 0 END) AS removed,
        sum(CASE quantity WHEN 'accounts' THEN step ELSE 0 END) AS accounts
    FROM steps
    GROUP BY provider, day
),
totals AS (
    SELECT
        provider, day,
        CAST(
            sum(connected) OVER (PARTITION BY provider ORDER BY day ROWS UNBOUNDED PRECEDING) AS BIGINT
        ) AS connected,
        CAST(
            sum(disconnected) OVER (PARTITION BY provider ORDER BY day ROWS UNBOUNDED PRECEDING) AS BIGINT
        ) AS disconnected,
        CAST(
            sum(unknown) OVER (PARTITION BY provider ORDER BY day ROWS UNBOUNDED PRECEDING) AS BIGINT
        ) AS unknown,
        CAST(
            sum(removed) OVER (PARTITION BY provider ORDER BY day ROWS UNBOUNDED PRECEDING) AS BIGINT
        ) AS removed,
        CAST(
            sum(accounts) OVER (PARTITION BY provider ORDER BY day ROWS UNBOUNDED PRECEDING) AS BIGINT
        ) AS accounts
    FROM steps_by_day
)
SELECT day, provider, connected, disconnected, unknown, removed, accounts
FROM totals
WHERE connected + disconnected + unknown + removed > 0
