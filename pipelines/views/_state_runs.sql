-- _state_runs: one row per profile and maximal run of samples with one state.
-- The change log holds a state until the profile's next change. Of several changes at one instant disconnected wins
-- over connected over removed; a change that leaves the state as it was (`attributes`) starts no run.
--
-- account_id, profile_type, profile_id
-- provider, provider_name, provider_service, profile_name, relink_url, provider_protocol, migration_url: newest known
-- state: connected, disconnected or removed
-- previous_state, next_state: null for the profile's first, newest run
-- started_after: last sample before the run; null for the first run
-- unseen_until: last sample of the account before the run, which did not list the profile if this is its first run;
--     null at the account's first look
-- first_sample_at, last_sample_at: first and last sample of the run
-- ended_at: first sample of the next run; null for the newest run
-- is_newest: whether it is the profile's newest run; PostgreSQL expects many rows of it, and hardly any where ended_at
--     is null
-- is_outage: whether state is disconnected; PostgreSQL expects many rows of it, and hardly any of a state by its name
WITH states AS (
    SELECT
        account_id, profile_type, profile_id, observed_at,
        CASE min(CASE state WHEN 'disconnected' THEN 1 WHEN 'connected' THEN 2 ELSE 3 END)
            WHEN 1 THEN 'disconnected' WHEN 2 THEN 'connected' ELSE 'removed'
        END AS state,
        max(previous_poll_at) AS previous_sample_at
    FROM profile_changes
    WHERE account_id IS NOT NULL AND state IS NOT NULL AND observed_at <= (SELECT as_of FROM _as_of)
    GROUP BY account_id, profile_type, profile_id, observed_at
),
compared AS (
    SELECT
        *,
        lag(state) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY observed_at) AS previous_state
    FROM states
),
newest_samples AS (
    SELECT account_id, profile_type, max(last_sample_at) AS newest_sample_at
    FROM coverage
    GROUP BY account_id, profile_type
)
SELECT
    account_id, profile_type, profile_id,
    coalesce(provider_service, provider_name, 'unknown') AS provider,
    provider_name, provider_service, profile_name, relink_url, provider_protocol, migration_url,
    state, state = 'disconnected' AS is_outage, previous_state,
    lead(state) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY observed_at) AS next_state,
    CASE WHEN previous_state IS NOT NULL THEN previous_sample_at END AS started_after,
    previous_sample_at AS unseen_until,
    observed_at AS first_sample_at,
    coalesce(
        lead(previous_sample_at) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY observed_at),
        newest_sample_at
    ) AS last_sample_at,
    lead(observed_at) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY observed_at) AS ended_at,
    lead(observed_at) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY observed_at) IS NULL AS is_newest
FROM compared
-- every row finds a partner, but of inner joins on several columns PostgreSQL expects hardly any row
LEFT JOIN newest_samples USING (account_id, profile_type)
LEFT JOIN _profile_names USING (account_id, profile_type, profile_id)
WHERE previous_state IS NULL OR previous_state <> state
