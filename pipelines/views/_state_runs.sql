-- _state_runs: one row per profile and maximal run of samples with one state.
-- The change log holds a state until the profile's next change. Of several changes at one instant disconnected wins
-- over connected over removed; a change that leaves the state as it was (`attributes`) starts no run.
--
-- account_id, profile_type, profile_id
-- state, previous_state: connected, disconnected or removed; previous_state is null for the first run
-- start_us: first sample of the run
-- end_us: first sample of the next run, null for the newest run
WITH sampled AS (
    SELECT
        account_id,
        profile_type,
        profile_id,
        epoch_us(observed_at) AS sampled_us,
        min(CASE state WHEN 'disconnected' THEN 1 WHEN 'connected' THEN 2 ELSE 3 END) AS state_rank
    FROM profile_changes
    WHERE
        account_id IS NOT NULL
        AND profile_type IN ('calendar', 'conferencing')
        AND profile_id IS NOT NULL
        AND state IN ('connected', 'disconnected', 'removed')
        AND observed_at <= (SELECT max(polled_at) FROM polls)
    GROUP BY account_id, profile_type, profile_id, epoch_us(observed_at)
),
compared AS (
    SELECT
        *,
        lag(state_rank) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY sampled_us) AS previous_rank
    FROM sampled
)
SELECT
    account_id,
    profile_type,
    profile_id,
    CASE state_rank WHEN 1 THEN 'disconnected' WHEN 2 THEN 'connected' ELSE 'removed' END AS state,
    CASE previous_rank WHEN 1 THEN 'disconnected' WHEN 2 THEN 'connected' WHEN 3 THEN 'removed' END AS previous_state,
    sampled_us AS start_us,
    lead(sampled_us) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY sampled_us) AS end_us
FROM compared
WHERE previous_rank IS NULL OR previous_rank <> state_rank
