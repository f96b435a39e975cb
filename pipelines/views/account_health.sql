-- account_health: one row per account: the state of its profiles at as_of, the newest polled_at.
-- A profile that its newest sample did not list is gone and not counted, nor is any profile of an account that left.
-- A state whose newest sample is `hold` old or older is unknown. A sample at as_of counts, though it starts no interval
-- yet in profile_intervals.
--
-- account_id, account_type, customer, email, email_domain, name, token_keys
-- profiles = connected + disconnected + unknown
-- verdict: left: the token store has none of its tokens any more; not_connected: it has the user, without a token;
--     service_account: it has no profiles of its own; no_profiles; down: all are disconnected; degraded: some are;
--     healthy: all are connected; unknown: none is known to be disconnected, but not all are known to be connected
-- last_sample_at: newest sample of any of its profiles, null if there was none
-- calendar_profiles = calendar_connected + calendar_disconnected + calendar_unknown
-- calendar_verdict: the verdict on its calendar profiles alone
-- conferencing_profiles = conferencing_connected + conferencing_disconnected + conferencing_unknown
-- conferencing_verdict: the verdict on its conferencing profiles alone
WITH newest_samples AS (
    SELECT account_id, max(last_sample_at) AS last_sample_at FROM coverage GROUP BY account_id
),
current_states AS (
    SELECT
        account_id, profile_type,
        CASE WHEN last_sample_at + $hold > (SELECT as_of FROM _as_of) THEN state ELSE 'unknown' END AS state
    FROM _state_runs
    WHERE is_newest AND state <> 'removed'
),
counts AS (
    SELECT
        account_id,
        count(CASE WHEN profile_type = 'calendar' AND state = 'connected' THEN 1 END) AS calendar_connected,
        count(CASE WHEN profile_type = 'calendar' AND state = 'disconnected' THEN 1 END) AS calendar_disconnected,
        count(CASE WHEN profile_type = 'calendar' AND state = 'unknown' THEN 1 END) AS calendar_unknown,
        count(CASE WHEN profile_type = 'conferencing' AND state = 'connected' THEN 1 END) AS conferencing_connected,
        count(CASE WHEN profile_type = 'conferencing' AND state = 'disconnected' THEN 1 END)
            AS conferencing_disconnected,
        count(CASE WHEN profile_type = 'conferencing' AND state = 'unknown' THEN 1 END) AS conferencing_unknown
    FROM _accounts
    LEFT JOIN current_states USING (account_id)
    WHERE is_present
    GROUP BY account_id
),
totals AS (
    SELECT
        account_id, account_type, customer, email, email_domain, name, token_keys, standing,
        coalesce(calendar_connected, 0) AS calendar_connected,
        coalesce(calendar_disconnected, 0) AS calendar_disconnected,
        coalesce(calendar_unknown, 0) AS calendar_unknown,
        coalesce(calendar_connected + calendar_disconnected + calendar_unknown, 0) AS calendar_profiles,
        coalesce(conferencing_connected, 0) AS conferencing_connected,
        coalesce(conferencing_disconnected, 0) AS conferencing_disconnected,
        coalesce(conferencing_unknown, 0) AS conferencing_unknown,
        coalesce(conferencing_connected + conferencing_disconnected + conferencing_unknown, 0)
            AS conferencing_profiles,
        last_sample_at
    FROM _accounts
    LEFT JOIN counts USING (account_id)
    LEFT JOIN newest_samples USING (account_id)
),
sums AS (
    SELECT
        *,
        calendar_connected + conferencing_connected AS connected,
        calendar_disconnected + conferencing_disconnected AS disconnected,
        calendar_unknown + conferencing_unknown AS unknown,
        calendar_profiles + conferencing_profiles AS profiles,
        -- what its tokens say, before any profile is looked at
        CASE
            WHEN standing <> 'present' THEN standing
            WHEN account_type = 'service_account' AND calendar_profiles + conferencing_profiles = 0
                THEN 'service_account'
        END AS standing_verdict
    FROM totals
)
SELECT
    account_id, account_type, customer, email, email_domain, name, token_keys,
    profiles, connected, disconnected, unknown,
    coalesce(
        standing_verdict,
        CASE
            WHEN profiles = 0 THEN 'no_profiles'
            WHEN disconnected = profiles THEN 'down'
            WHEN disconnected > 0 THEN 'degraded'
            WHEN connected = profiles THEN 'healthy'
            ELSE 'unknown'
        END
    ) AS verdict,
    last_sample_at,
    calendar_profiles, calendar_connected, calendar_disconnected, calendar_unknown,
    coalesce(
        standing_verdict,
        CASE
            WHEN calendar_profiles = 0 THEN 'no_profiles'
            WHEN calendar_disconnected = calendar_profiles THEN 'down'
            WHEN calendar_disconnected > 0 THEN 'degraded'
            WHEN calendar_connected = calendar_profiles THEN 'healthy'
            ELSE 'unknown'
        END
    ) AS calendar_verdict,
    conferencing_profiles, conferencing_connected, conferencing_disconnected, conferencing_unknown,
    coalesce(
        standing_verdict,
        CASE
            WHEN conferencing_profiles = 0 THEN 'no_profiles'
            WHEN conferencing_disconnected = conferencing_profiles THEN 'down'
            WHEN conferencing_disconnected > 0 THEN 'degraded'
            WHEN conferencing_connected = conferencing_profiles THEN 'healthy'
            ELSE 'unknown'
        END
    ) AS conferencing_verdict
FROM sums
