-- _day_steps: one row per quantity, account, provider and UTC day on which it is not what it was on the day before.
-- There may be several such rows. The sum of all steps up to a day is how much there is on that day. So what is added
-- up grows with the intervals of profile_intervals, and not with the days that they last.
--
-- account_id, provider
-- day: may be the one after the day of as_of
-- quantity: connected, disconnected, unknown, removed: seconds in that state
--     profiles: those that were not removed all day
--     accounts: those with a profile that was not removed all day; of all providers together
-- step: how much more; decimals, which add up to the same in any order
WITH intervals AS (
    SELECT
        account_id, profile_type, profile_id, provider, state, start_at, end_at,
        CAST(start_at AT TIME ZONE 'UTC' AS DATE) AS start_day,
        CAST(end_at AT TIME ZONE 'UTC' AS DATE) AS end_day
    FROM profile_intervals
),
instants AS (
    SELECT account_id, provider, state, start_at AS instant, start_day AS day, 1 AS sign FROM intervals
    UNION ALL
    SELECT account_id, provider, state, end_at AS instant, end_day AS day, -1 AS sign FROM intervals
),
midnights AS (
    SELECT *, CAST(day AS TIMESTAMP) AT TIME ZONE 'UTC' AS midnight FROM instants
),
cuts AS (
    SELECT account_id, provider, state, day, sign, sign * CAST(epoch(instant - midnight) AS DECIMAL(18, 6)) AS seconds
    FROM midnights
),
closed AS (
    SELECT
        *,
        -- the first day of which nothing is in it
        CASE WHEN CAST(end_day AS TIMESTAMP) AT TIME ZONE 'UTC' < end_at THEN end_day + 1 ELSE end_day END AS until_day
    FROM intervals
    WHERE state <> 'removed'
),
-- of a day that two intervals have a part in only the one that started first counts
counted AS (
    SELECT
        account_id, provider, start_day, until_day,
        max(until_day) OVER (
            PARTITION BY account_id, profile_type, profile_id
            ORDER BY start_at
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS profile_until,
        max(until_day) OVER (
            PARTITION BY account_id
            ORDER BY start_at, profile_type, profile_id COLLATE "C"
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS account_until
    FROM closed
),
presence AS (
    SELECT
        account_id, provider, 'profiles' AS quantity,
        greatest(start_day, coalesce(profile_until, start_day)) AS from_day, until_day
    FROM counted
    UNION ALL
    SELECT
        account_id, provider, 'accounts' AS quantity,
        greatest(start_day, coalesce(account_until, start_day)) AS from_day, until_day
    FROM counted
)
-- the day's rest, and from the next day on all of it
SELECT account_id, provider, day, state AS quantity, sign * 86400 - seconds AS step FROM cuts
UNION ALL
SELECT account_id, provider, day + 1 AS day, state AS quantity, seconds AS step FROM cuts
UNION ALL
SELECT account_id, provider, from_day AS day, quantity, 1 AS step FROM presence WHERE from_day < until_day
UNION ALL
SELECT account_id, provider, until_day AS day, quantity, -1 AS step FROM presence WHERE from_day < until_day
