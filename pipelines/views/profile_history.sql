-- profile_history: one row per profile and maximal interval in which nothing of it changed (SCD type 2).
-- The change log as validity intervals, half-open: a row is valid from the poll that showed it to the poll that showed
-- the next change. Of several changes at one instant disconnected wins over connected over removed. A state lasts here
-- until another one is seen; for times at which nobody looked see profile_intervals.
--
-- account_id, profile_type, profile_id, provider
-- provider_name, provider_service, profile_name: as of then
-- state: connected, disconnected or removed
-- kind: what made it: first_seen, connected, disconnected, removed, reappeared or attributes
-- profile_initial_sync_required, profile_relink_url: as of then
-- valid_from, valid_to: valid_from <= t < valid_to; valid_to is null for the present row
-- is_current: true for the present row
WITH ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY account_id, profile_type, profile_id, observed_at
            ORDER BY
                CASE state WHEN 'disconnected' THEN 1 WHEN 'connected' THEN 2 ELSE 3 END,
                CASE kind WHEN 'attributes' THEN 2 ELSE 1 END, change_id COLLATE "C"
        ) AS place
    FROM profile_changes
    WHERE account_id IS NOT NULL AND state IS NOT NULL AND observed_at <= (SELECT as_of FROM _as_of)
),
dated AS (
    SELECT
        account_id, profile_type, profile_id, state, kind,
        provider_name, provider_service, profile_name, profile_initial_sync_required, profile_relink_url,
        observed_at AS valid_from,
        lead(observed_at) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY observed_at) AS valid_to
    FROM ranked
    WHERE place = 1
)
SELECT
    account_id, profile_type, profile_id,
    coalesce(provider_service, provider_name, 'unknown') AS provider,
    provider_name, provider_service, profile_name, state, kind, profile_initial_sync_required, profile_relink_url,
    valid_from, valid_to,
    valid_to IS NULL AS is_current
FROM dated
