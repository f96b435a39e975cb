-- _profiles_now: one row per profile: what is known of it at as_of, the newest polled_at.
-- The columns of profile_health but those of the last 30 days and reason, and what needs_action asks besides.
--
-- is_present: of the account, as _accounts has it
-- sampled_state: what the newest sample says, however old it is: connected, disconnected or removed
-- is_outage: whether that is disconnected
-- run_started_after: last sample before the present state; null if the account's first look found it so
-- sync_known_after: last sample before initial_sync_since; null if the account's first look found it so
-- calendars_changed_at: newest change of its calendars
-- must_write: whether the scope asks for calendars that can be written
-- migration_url, relink_url: newest known
WITH newest_runs AS (
    SELECT *, last_sample_at + $hold > (SELECT as_of FROM _as_of) AS is_known
    FROM _state_runs
    WHERE is_newest
),
first_runs AS (
    SELECT
        account_id, profile_type, profile_id,
        CASE WHEN unseen_until IS NOT NULL THEN first_sample_at END AS linked_at
    FROM _state_runs
    WHERE previous_state IS NULL
),
-- of every change: whether the first sync was required, and when a change last found that it was not
syncs AS (
    SELECT
        account_id, profile_type, profile_id, observed_at, previous_poll_at,
        max(
            CASE WHEN profile_initial_sync_required AND state <> 'removed' THEN NULL ELSE observed_at END
        ) OVER (PARTITION BY account_id, profile_type, profile_id) AS last_synced_at
    FROM profile_changes
    WHERE observed_at <= (SELECT as_of FROM _as_of)
),
sync_starts AS (
    SELECT
        account_id, profile_type, profile_id,
        min(observed_at) AS initial_sync_since,
        min(previous_poll_at) AS sync_known_after
    FROM syncs
    WHERE last_synced_at IS NULL OR observed_at > last_synced_at
    GROUP BY account_id, profile_type, profile_id
),
listed_calendars AS (
    SELECT
        account_id, profile_id, calendar_id,
        max(observed_at) AS observed_at,
        max(CASE WHEN removed_at IS NULL THEN 1 ELSE 0 END) AS is_listed,
        max(
            CASE
                WHEN removed_at IS NULL
                    AND NOT coalesce(calendar_readonly, FALSE)
                    AND NOT coalesce(calendar_deleted, FALSE)
                    THEN 1
                ELSE 0
            END
        ) AS is_writable
    FROM calendars
    GROUP BY account_id, profile_id, calendar_id
),
calendar_counts AS (
    SELECT
        account_id, 'calendar' AS profile_type, profile_id,
        sum(is_listed) AS calendars,
        sum(is_writable) AS writable_calendars,
        max(observed_at) AS calendars_changed_at
    FROM listed_calendars
    GROUP BY account_id, profile_id
),
joined AS (
    SELECT
        account_id, customer, email, email_domain, name, token_keys, is_present, left_at,
        provider, provider_name, provider_service, provider_protocol, profile_type, profile_id, profile_name,
        relink_url, migration_url,
        state AS sampled_state, is_outage,
        CASE
            WHEN NOT is_present THEN 'left'
            WHEN state <> 'removed' AND NOT is_known THEN 'unknown'
            ELSE state
        END AS state,
        first_sample_at, last_sample_at,
        unseen_until AS run_started_after,
        linked_at,
        CASE WHEN state <> 'removed' AND is_present THEN initial_sync_since END AS initial_sync_since,
        sync_known_after,
        CASE WHEN profile_type = 'calendar' THEN coalesce(calendars, 0) END AS calendars,
        CASE WHEN profile_type = 'calendar' THEN coalesce(writable_calendars, 0) END AS writable_calendars,
        calendars_changed_at,
        may_write = 1 AND profile_type = 'calendar' AS must_write
    FROM newest_runs
    LEFT JOIN _accounts USING (account_id)
    LEFT JOIN first_runs USING (account_id, profile_type, profile_id)
    LEFT JOIN sync_starts USING (account_id, profile_type, profile_id)
    LEFT JOIN calendar_counts USING (account_id, profile_type, profile_id)
)
SELECT
    account_id, customer, email, email_domain, name, token_keys, is_present,
    provider, provider_name, provider_service, provider_protocol, profile_type, profile_id, profile_name,
    relink_url, migration_url,
    sampled_state, is_outage, state,
    CASE state
        WHEN 'left' THEN left_at
        WHEN 'unknown' THEN last_sample_at + $hold
        ELSE first_sample_at
    END AS since,
    first_sample_at, run_started_after, linked_at, last_sample_at,
    CASE WHEN is_outage AND state <> 'left' THEN first_sample_at END AS open_outage_at,
    initial_sync_since, sync_known_after,
    CAST(calendars AS BIGINT) AS calendars,
    CAST(writable_calendars AS BIGINT) AS writable_calendars,
    calendars_changed_at, must_write,
    state = 'connected' AND initial_sync_since IS NULL
    AND (NOT must_write OR writable_calendars > 0) AS usable
FROM joined
