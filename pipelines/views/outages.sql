-- outages: one row per profile and maximal run of disconnected samples.
-- Unknown gaps inside do not split an outage; the first connected or removed sample ends it. A sample is an ok poll
-- of the account that lists the profile's type, so all times below are times at which somebody looked.
--
-- account_id, profile_type, profile_id, provider
-- provider_name, provider_service: newest known
-- started_after: last sample before it that was not disconnected; null: already down when first seen
-- first_seen_at, last_seen_at: first and last sample of the run
-- ended_at: first later sample that is not disconnected; null while open
-- end_reason: relinked, removed or open
-- min_seconds: last_seen_at - first_seen_at, the time it was certainly down
-- max_seconds: ended_at - started_after, the time it was possibly down; null if either is
-- seconds: coalesce(ended_at, last_seen_at) - first_seen_at
-- relink_url: newest known; open outages only
SELECT
    account_id, profile_type, profile_id, provider, provider_name, provider_service,
    started_after,
    first_sample_at AS first_seen_at,
    last_sample_at AS last_seen_at,
    ended_at,
    CASE next_state WHEN 'connected' THEN 'relinked' WHEN 'removed' THEN 'removed' ELSE 'open' END AS end_reason,
    epoch(last_sample_at - first_sample_at) AS min_seconds,
    epoch(ended_at - started_after) AS max_seconds,
    epoch(coalesce(ended_at, last_sample_at) - first_sample_at) AS seconds,
    CASE WHEN ended_at IS NULL THEN relink_url END AS relink_url
FROM _state_runs
WHERE state = 'disconnected'
