-- account_health: one row per account: the state of its profiles at as_of, the newest polled_at in polls.
-- A profile that its newest sample did not list is gone and not counted. A state whose newest sample is `hold` old or
-- older is unknown. A sample at as_of counts, though it starts no interval yet in profile_intervals.
--
-- account_id
-- profiles = connected + disconnected + unknown
-- verdict: no_profiles; down: all are disconnected; degraded: some are; healthy: all are connected; unknown: none is
--     known to be disconnected, but not all are known to be connected
-- last_sample_at: newest sample of any of its profiles, null if there was none
WITH accounts AS (
    SELECT account_id FROM polls WHERE account_id IS NOT NULL
    UNION
    SELECT account_id FROM _state_runs
),
last_samples AS (
    SELECT account_id, max(newest_us) AS newest_us
    FROM _newest_samples
    GROUP BY account_id
),
current_states AS (
    SELECT
        runs.account_id,
        CASE
            WHEN newest_samples.newest_us + $hold_us > (SELECT as_of_us FROM _newest_poll) THEN runs.state
            ELSE 'unknown'
        END AS state
    FROM _state_runs AS runs
    INNER JOIN _newest_samples AS newest_samples
        ON runs.account_id = newest_samples.account_id AND runs.profile_type = newest_samples.profile_type
    WHERE runs.end_us IS NULL AND runs.state <> 'removed'
),
counts AS (
    SELECT
        account_id,
        count(*) AS profiles,
        sum(CASE WHEN state = 'connected' THEN 1 ELSE 0 END) AS connected,
        sum(CASE WHEN state = 'disconnected' THEN 1 ELSE 0 END) AS disconnected,
        sum(CASE WHEN state = 'unknown' THEN 1 ELSE 0 END) AS unknown
    FROM current_states
    GROUP BY account_id
)
SELECT
    accounts.account_id,
    CAST(coalesce(counts.profiles, 0) AS BIGINT) AS profiles,
    CAST(coalesce(counts.connected, 0) AS BIGINT) AS connected,
    CAST(coalesce(counts.disconnected, 0) AS BIGINT) AS disconnected,
    CAST(coalesce(counts.unknown, 0) AS BIGINT) AS unknown,
    CASE
        WHEN counts.profiles IS NULL THEN 'no_profiles'
        WHEN counts.disconnected = counts.profiles THEN 'down'
        WHEN counts.disconnected > 0 THEN 'degraded'
        WHEN counts.connected = counts.profiles THEN 'healthy'
        ELSE 'unknown'
    END AS verdict,
    make_timestamptz(last_samples.newest_us) AS last_sample_at
FROM accounts
LEFT JOIN counts ON accounts.account_id = counts.account_id
LEFT JOIN last_samples ON accounts.account_id = last_samples.account_id
