-- stock_daily: one row per UTC day and provider: how many profiles there were at the day's end.
-- Counted at midnight, on the last day at as_of, the newest polled_at. An account that left is not counted from then
-- on.
--
-- day, provider
-- connected, disconnected, unknown
-- removed: profiles that were removed by then
-- accounts: accounts with a profile that was not removed
WITH ends AS (
    SELECT day, least(end_at, as_of) AS instant
    FROM _days
    CROSS JOIN _as_of
),
profile_states AS (
    SELECT day, account_id, provider, state
    FROM profile_intervals
    INNER JOIN ends ON start_at < instant AND end_at >= instant
    LEFT JOIN _accounts USING (account_id)
    WHERE left_at IS NULL OR instant < left_at
)
SELECT
    day, provider,
    count(CASE state WHEN 'connected' THEN 1 END) AS connected,
    count(CASE state WHEN 'disconnected' THEN 1 END) AS disconnected,
    count(CASE state WHEN 'unknown' THEN 1 END) AS unknown,
    count(CASE state WHEN 'removed' THEN 1 END) AS removed,
    count(DISTINCT CASE WHEN state <> 'removed' THEN account_id END) AS accounts
FROM profile_states
GROUP BY day, provider
