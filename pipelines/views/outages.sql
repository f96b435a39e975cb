-- outages: one row per profile and maximal run of disconnected samples.
-- Unknown gaps inside do not split an outage; the first connected or removed sample ends it. A sample is an ok poll
-- of the account that lists the profile's type, so all times below are times at which somebody looked. Who removes a
-- profile and connects again within 14 days has replaced it: the account then has a new profile of the same provider
-- and the same known profile_name, letter case aside.
--
-- account_id, customer, profile_type, profile_id, provider, provider_protocol
-- provider_name, provider_service: newest known
-- outage_number: 1 for the profile's first outage, 2 for its second, …
-- started_after: last sample before it that was not disconnected; null: already down when first seen
-- first_seen_at, last_seen_at: first and last sample of the run
-- ended_at: first later sample that is not disconnected; null while open
-- replaced_at: first sample of the profile that took its place; null unless end_reason is replaced
-- end_reason: relinked, replaced, removed or open
-- broke_again_at: first_seen_at of the profile's next outage if within 7 days of ended_at, else null
-- detection_seconds: first_seen_at - started_after, the longest it can have gone unseen; null if started_after is
-- min_seconds: last_seen_at - first_seen_at, the time it was certainly down
-- max_seconds: ended_at - started_after, the time it was possibly down; null if either is
-- seconds: from first_seen_at to replaced_at, else ended_at, else last_seen_at
-- relink_url: newest known; open outages only
WITH runs_down AS (
    SELECT * FROM _state_runs WHERE is_outage
),
new_profiles AS (
    SELECT
        account_id, profile_type, profile_id, provider,
        lower(profile_name) AS lower_name,
        min(first_sample_at) AS linked_at
    FROM _state_runs
    WHERE profile_name IS NOT NULL
    GROUP BY account_id, profile_type, profile_id, provider, lower(profile_name)
),
replacements AS (
    SELECT removed.account_id, removed.profile_type, removed.profile_id, ended_at, min(linked_at) AS replaced_at
    FROM runs_down AS removed
    INNER JOIN new_profiles
        ON
            removed.account_id = new_profiles.account_id
            AND removed.profile_type = new_profiles.profile_type
            AND removed.provider = new_profiles.provider
            AND lower(removed.profile_name) = new_profiles.lower_name
            AND removed.profile_id <> new_profiles.profile_id
            AND new_profiles.linked_at >= removed.ended_at
            AND new_profiles.linked_at <= removed.ended_at + INTERVAL '336 hour'
    WHERE removed.next_state = 'removed'
    GROUP BY removed.account_id, removed.profile_type, removed.profile_id, ended_at
),
numbered AS (
    SELECT
        runs_down.*,
        row_number() OVER (
            PARTITION BY account_id, profile_type, profile_id ORDER BY first_sample_at
        ) AS outage_number,
        lead(first_sample_at) OVER (
            PARTITION BY account_id, profile_type, profile_id ORDER BY first_sample_at
        ) AS next_outage_at
    FROM runs_down
)
SELECT
    account_id, customer, profile_type, profile_id, provider, provider_protocol, provider_name, provider_service,
    outage_number,
    started_after,
    first_sample_at AS first_seen_at,
    last_sample_at AS last_seen_at,
    ended_at,
    replaced_at,
    CASE
        WHEN replaced_at IS NOT NULL THEN 'replaced'
        WHEN next_state = 'connected' THEN 'relinked'
        WHEN next_state = 'removed' THEN 'removed'
        ELSE 'open'
    END AS end_reason,
    CASE WHEN next_outage_at <= ended_at + INTERVAL '168 hour' THEN next_outage_at END AS broke_again_at,
    epoch(first_sample_at - started_after) AS detection_seconds,
    epoch(last_sample_at - first_sample_at) AS min_seconds,
    epoch(ended_at - started_after) AS max_seconds,
    epoch(coalesce(replaced_at, ended_at, last_sample_at) - first_sample_at) AS seconds,
    CASE WHEN ended_at IS NULL THEN relink_url END AS relink_url
FROM numbered
LEFT JOIN replacements USING (account_id, profile_type, profile_id, ended_at)
LEFT JOIN _accounts USING (account_id)
