-- flapping_profiles: one row per profile with three or more outages first seen in the last 30 days before as_of.
-- Those that were already down when first seen count as well; profiles of accounts that left do not. as_of is the newest
-- polled_at.
--
-- account_id, customer, email, profile_type, profile_id, provider
-- provider_name, provider_service: newest known
-- outages_30d: how many outages these are
-- state: at the newest sample: connected, disconnected or removed
-- last_changed_at: when the state last changed: first sample of the present one
WITH marked AS (
    SELECT *, state = 'disconnected' AND first_sample_at >= as_of - INTERVAL '720 hour' AS is_recent_outage
    FROM _state_runs
    CROSS JOIN _as_of
)
SELECT
    account_id, customer, email, profile_type, profile_id, provider, provider_name, provider_service,
    count(CASE WHEN is_recent_outage THEN 1 END) AS outages_30d,
    max(CASE WHEN ended_at IS NULL THEN state END) AS state,
    max(first_sample_at) AS last_changed_at
FROM marked
LEFT JOIN _accounts USING (account_id)
WHERE is_present
GROUP BY account_id, customer, email, profile_type, profile_id, provider, provider_name, provider_service
HAVING count(CASE WHEN is_recent_outage THEN 1 END) >= 3
