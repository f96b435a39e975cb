-- _outages: one row per profile and maximal run of disconnected samples: what the change log alone tells of outages.
--
-- account_id, profile_type, profile_id
-- first_seen_us: first sample of the run
-- broken_us: first_seen_us if the profile was seen in another state before, null if it was down when first seen
-- ended_us: first sample after the run, null while open
-- end_reason: relinked, removed or open
-- newest_us: newest sample of the account and profile type
-- duration_us: from first_seen_us to ended_us, or to newest_us while open
WITH runs AS (
    SELECT
        account_id,
        profile_type,
        profile_id,
        -- null where it is no outage: behind a comparison with a computed state PostgreSQL expects hardly any row,
        -- and joins in nested loops
        CASE WHEN state = 'disconnected' THEN start_us END AS first_seen_us,
        CASE WHEN previous_state IS NOT NULL THEN start_us END AS broken_us,
        end_us,
        lead(state) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY start_us) AS next_state
    FROM _state_runs
)
SELECT
    runs.account_id,
    runs.profile_type,
    runs.profile_id,
    runs.first_seen_us,
    runs.broken_us,
    runs.end_us AS ended_us,
    CASE runs.next_state WHEN 'connected' THEN 'relinked' WHEN 'removed' THEN 'removed' ELSE 'open' END AS end_reason,
    newest_samples.newest_us,
    coalesce(runs.end_us, newest_samples.newest_us) - runs.first_seen_us AS duration_us
FROM runs
INNER JOIN _newest_samples AS newest_samples
    ON runs.account_id = newest_samples.account_id AND runs.profile_type = newest_samples.profile_type
WHERE runs.first_seen_us IS NOT NULL
