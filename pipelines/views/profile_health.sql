-- profile_health: one row per profile, the place to start.
-- What is known at as_of, the newest polled_at.
--
-- account_id, customer, email, email_domain, name, token_keys
-- provider, provider_protocol
-- profile_type, profile_id
-- profile_name: newest known
-- state: connected, disconnected, removed, unknown (the newest sample is `hold` old or older) or left (the token
--     store has no token of the account any more)
-- since: first sample in that state; for unknown, when the newest sample stopped counting; for left, left_at
-- linked_at: first sample that listed it; null if it was there at the first look
-- last_sample_at: newest sample
-- uptime_30d: connected / (connected + disconnected) in the last 30 days; null if that is 0
-- outages_30d: outages first seen in the last 30 days, those that were already down included
-- open_outage_at: first sample of the open outage, if there is one
-- initial_sync_since: first sample since which its first sync has been required; null if it is not
-- calendars: calendars it lists; null for a conferencing profile
-- writable_calendars: those of them that can be written; null likewise
-- usable: connected, synced, and with a calendar that can be written where the scope asks for it
-- reason: most urgent reason of needs_action for it or its account, else null
WITH recent_times AS (
    SELECT
        account_id, profile_type, profile_id,
        CAST(connected_seconds AS DOUBLE) AS connected_seconds,
        CAST(disconnected_seconds AS DOUBLE) AS disconnected_seconds
    FROM _profile_times
    WHERE period = '30d'
),
recent_outages AS (
    SELECT account_id, profile_type, profile_id, count(*) AS outages_30d
    FROM _state_runs
    INNER JOIN _periods ON first_sample_at >= from_at
    WHERE is_outage AND period = '30d'
    GROUP BY account_id, profile_type, profile_id
),
reasons AS (
    SELECT account_id, profile_type, profile_id, min(rank) AS rank
    FROM needs_action
    GROUP BY account_id, profile_type, profile_id
),
ranked AS (
    SELECT
        profiles_now.*,
        connected_seconds / nullif(connected_seconds + disconnected_seconds, 0) AS uptime_30d,
        coalesce(outages_30d, 0) AS outages_30d,
        least(coalesce(of_profile.rank, 9), coalesce(of_account.rank, 9)) AS rank
    FROM _profiles_now AS profiles_now
    LEFT JOIN recent_times USING (account_id, profile_type, profile_id)
    LEFT JOIN recent_outages USING (account_id, profile_type, profile_id)
    LEFT JOIN reasons AS of_profile
        ON
            profiles_now.account_id = of_profile.account_id
            AND profiles_now.profile_type = of_profile.profile_type
            AND profiles_now.profile_id = of_profile.profile_id
    LEFT JOIN reasons AS of_account
        ON profiles_now.account_id = of_account.account_id AND of_account.profile_id IS NULL
)
SELECT
    account_id, customer, email, email_domain, name, token_keys, provider, provider_protocol,
    profile_type, profile_id, profile_name, state, since, linked_at, last_sample_at, uptime_30d, outages_30d,
    open_outage_at, initial_sync_since, calendars, writable_calendars, usable,
    CASE WHEN state NOT IN ('removed', 'left') THEN reason END AS reason
FROM ranked
LEFT JOIN _reasons USING (rank)
