-- needs_relink: one row per open outage: who has to relink what.
-- The reason relink of needs_action. An outage stays open until a sample says otherwise, however old the evidence is;
-- see evidence_age_seconds.
--
-- account_id, email, name, token_keys
-- profile_type, profile_id
-- profile_name: newest known
-- provider
-- provider_name, provider_service, relink_url: newest known
-- first_seen_at, last_seen_at: first and newest sample of the outage
-- days_down: days from first_seen_at to last_seen_at, the time it was certainly down
-- evidence_age_seconds: from last_seen_at to as_of, the newest polled_at
SELECT
    account_id, email, name, token_keys,
    profile_type, profile_id, profile_name, provider, provider_name, provider_service, relink_url,
    first_sample_at AS first_seen_at,
    last_sample_at AS last_seen_at,
    epoch(last_sample_at - first_sample_at) / 86400 AS days_down,
    epoch(as_of - last_sample_at) AS evidence_age_seconds
FROM _profiles_now
CROSS JOIN _as_of
WHERE is_outage AND is_present
