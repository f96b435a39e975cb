-- account_health: one row per account: the state of its profiles at as_of, the newest polled_at.
-- A profile that its newest sample did not list is gone and not counted. A state whose newest sample is `hold` old or
-- older is unknown. A sample at as_of counts, though it starts no interval yet in profile_intervals.
--
-- account_id
-- profiles = connected + disconnected + unknown
-- verdict: no_profiles; down: all are disconnected; degraded: some are; healthy: all are connected; unknown: none is
--     known to be disconnected, but not all are known to be connected
-- last_sample_at: newest sample of any of its profiles, null if there was none
WITH accounts AS (
    SELECT DISTINCT account_id
    FROM (
        SELECT account_id FROM token_status WHERE account_id IS NOT NULL
        UNION ALL
        SELECT account_id FROM coverage
        UNION ALL
        SELECT account_id FROM _state_runs
    ) AS listed
),
newest_samples AS (
    SELECT account_id, max(last_sample_at) AS last_sample_at FROM coverage GROUP BY account_id
),
current_states AS (
    SELECT
        account_id,
        CASE WHEN last_sample_at + $hold > (SELECT as_of FROM _as_of) THEN state ELSE 'unknown' END AS state
    FROM _state_runs
    WHERE ended_at IS NULL AND state <> 'removed'
),
counts AS (
    SELECT
        account_id,
        count(state) AS profiles,
        count(CASE state WHEN 'connected' THEN 1 END) AS connected,
        count(CASE state WHEN 'disconnected' THEN 1 END) AS disconnected,
        count(CASE state WHEN 'unknown' THEN 1 END) AS unknown
    FROM accounts
    LEFT JOIN current_states USING (account_id)
    GROUP BY account_id
)
SELECT
    account_id, profiles, connected, disconnected, unknown,
    CASE
        WHEN profiles = 0 THEN 'no_profiles'
        WHEN disconnected = profiles THEN 'down'
        WHEN disconnected > 0 THEN 'degraded'
        WHEN connected = profiles THEN 'healthy'
        ELSE 'unknown'
    END AS verdict,
    last_sample_at
FROM counts
LEFT JOIN newest_samples USING (account_id)
