-- needs_action: one row per account, profile and thing that somebody must do.
-- The worklist. Accounts that left are not in it. What a token needs has no profile: nobody sees its profiles. An open
-- outage stays in it until a sample says otherwise, however old the evidence is; see evidence_age_seconds.
--
-- account_id: null for a token that could never be read
-- customer, email, email_domain, name, token_keys
-- profile_type, profile_id, profile_name, provider: null where the account's tokens are what needs it
-- reason: authorize (its tokens are all rejected or revoked), widen_scope (refused for lack of scope), relink
--     (disconnected), initial_sync (connected, but the first sync has been required for longer than a day),
--     no_writable_calendar (connected, but none of its calendars can be written though the scope asks for it), migrate
--     (Microsoft 365 over Exchange Web Services, which Microsoft blocks from 2026-10-01)
-- rank: of the reason; 1 is most urgent
-- since: first observation of it
-- since_known: false: already so at the first look, so it may be older
-- days: from since to as_of, the newest polled_at
-- url: what the person has to open, if it is known: it lets anybody who opens it act for the user
-- evidence_age_seconds: from the newest sample, or attempt to read the tokens, to as_of
WITH refused AS (
    SELECT
        account_id,
        CASE WHEN account_id IS NULL THEN token_key END AS unread_key,
        max(customer) AS customer,
        CASE WHEN count(CASE verdict WHEN 'widen_scope' THEN 1 END) > 0 THEN 'widen_scope' ELSE 'authorize' END
            AS reason,
        -- since then none of them can be read
        max(failing_since) AS since,
        max(last_ok_at) IS NOT NULL AS since_known,
        max(last_polled_at) AS evidence_at
    FROM token_health
    WHERE verdict NOT IN ('left', 'not_connected')
    GROUP BY account_id, CASE WHEN account_id IS NULL THEN token_key END
    HAVING count(*) = count(CASE WHEN verdict IN ('authorize', 'widen_scope') THEN 1 END)
),
present AS (
    SELECT
        account_id, profile_type, profile_id, profile_name, provider, provider_service, provider_protocol,
        state, sampled_state, is_outage, first_sample_at, run_started_after, linked_at, last_sample_at,
        initial_sync_since, sync_known_after, calendars, writable_calendars, calendars_changed_at, must_write,
        relink_url, migration_url
    FROM _profiles_now
    WHERE is_present
),
profile_actions AS (
    SELECT
        account_id, profile_type, profile_id, profile_name, provider, 'relink' AS reason,
        first_sample_at AS since, run_started_after IS NOT NULL AS since_known, relink_url AS url,
        last_sample_at AS evidence_at
    FROM present
    WHERE is_outage
    UNION ALL
    SELECT
        account_id, profile_type, profile_id, profile_name, provider, 'initial_sync' AS reason,
        initial_sync_since AS since, sync_known_after IS NOT NULL AS since_known, relink_url AS url,
        last_sample_at AS evidence_at
    FROM present
    CROSS JOIN _as_of
    WHERE state = 'connected' AND initial_sync_since < as_of - INTERVAL '24 hour'
    UNION ALL
    SELECT
        account_id, profile_type, profile_id, profile_name, provider, 'no_writable_calendar' AS reason,
        greatest(first_sample_at, calendars_changed_at) AS since,
        run_started_after IS NOT NULL OR calendars_changed_at > first_sample_at AS since_known,
        NULL AS url, last_sample_at AS evidence_at
    FROM present
    WHERE state = 'connected' AND must_write AND calendars > 0 AND writable_calendars = 0
    UNION ALL
    SELECT
        account_id, profile_type, profile_id, profile_name, provider, 'migrate' AS reason,
        coalesce(linked_at, first_sample_at) AS since, linked_at IS NOT NULL AS since_known, migration_url AS url,
        last_sample_at AS evidence_at
    FROM present
    WHERE
        sampled_state <> 'removed'
        AND provider_service = 'office365'
        AND provider_protocol = 'exchange_web_services'
),
actions AS (
    SELECT
        account_id, NULL AS unread_key, NULL AS token_customer, profile_type, profile_id, profile_name, provider,
        reason, since, since_known, url, evidence_at
    FROM profile_actions
    UNION ALL
    SELECT
        account_id, unread_key, customer AS token_customer,
        NULL AS profile_type, NULL AS profile_id, NULL AS profile_name, NULL AS provider,
        reason, since, since_known, NULL AS url, evidence_at
    FROM refused
)
SELECT
    account_id,
    coalesce(accounts.customer, token_customer) AS customer,
    email, email_domain, name,
    coalesce(token_keys, unread_key) AS token_keys,
    profile_type, profile_id, profile_name, provider, reason, rank, since, since_known,
    epoch(as_of - since) / 86400 AS days,
    url,
    epoch(as_of - evidence_at) AS evidence_age_seconds
FROM actions
LEFT JOIN _reasons USING (reason)
LEFT JOIN _accounts AS accounts USING (account_id)
CROSS JOIN _as_of
