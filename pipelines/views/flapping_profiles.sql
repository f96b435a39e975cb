-- flapping_profiles: one row per profile whose state changed at 20 % or more of its last samples.
-- Looked at are the 20 steps between the profile's last 21 samples, however far apart they are; a step counts if the
-- states on its two sides (connected, disconnected or removed) differ. With fewer samples the missing steps count as
-- steady, so it always takes four changes.
--
-- account_id, profile_type, profile_id
-- provider_name, provider_service: newest known
-- state: at the newest sample
-- samples: how many there were to look at, at most 21
-- state_changes: steps at which the state changed
-- change_ratio: state_changes / 20
-- last_changed_at: newest of these changes
WITH runs AS (
    SELECT
        account_id,
        profile_type,
        profile_id,
        state,
        previous_state,
        start_us,
        min(start_us) OVER (PARTITION BY account_id, profile_type, profile_id) AS first_seen_us,
        row_number() OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY start_us DESC) AS recency
    FROM _state_runs
),
changes AS (
    SELECT account_id, profile_type, profile_id, state, start_us, first_seen_us, recency
    FROM runs
    WHERE previous_state IS NOT NULL
),
fourths AS (
    SELECT account_id, profile_type, max(start_us) AS fourth_us
    FROM changes
    WHERE recency = 4
    GROUP BY account_id, profile_type
),
-- a stretch with two ends holds two samples at least
buckets AS (
    SELECT
        fourths.account_id,
        fourths.profile_type,
        fourths.fourth_us,
        buckets.bucket_us,
        CASE fourths.profile_type
            WHEN 'calendar' THEN buckets.first_calendar_us ELSE buckets.first_conferencing_us
        END AS first_us,
        CASE fourths.profile_type
            WHEN 'calendar'
                THEN CASE WHEN buckets.first_calendar_us < buckets.last_calendar_us THEN 2 ELSE 1 END
            ELSE CASE WHEN buckets.first_conferencing_us < buckets.last_conferencing_us THEN 2 ELSE 1 END
        END AS samples
    FROM fourths
    INNER JOIN _sample_buckets AS buckets ON fourths.account_id = buckets.account_id
),
-- with 20 samples since, the fourth newest change of every profile is too long ago
suspects AS (
    SELECT account_id, profile_type
    FROM buckets
    WHERE first_us IS NOT NULL
    GROUP BY account_id, profile_type
    HAVING sum(CASE WHEN bucket_us > fourth_us THEN samples ELSE 0 END) < 20
),
counted_buckets AS (
    SELECT
        buckets.account_id,
        buckets.profile_type,
        buckets.fourth_us,
        buckets.first_us,
        sum(buckets.samples) OVER (
            PARTITION BY buckets.account_id, buckets.profile_type
            ORDER BY buckets.bucket_us DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS later_samples
    FROM buckets
    INNER JOIN suspects ON buckets.account_id = suspects.account_id AND buckets.profile_type = suspects.profile_type
    WHERE buckets.first_us IS NOT NULL
),
-- the stretches from horizon_us on hold the last 21 samples
restless AS (
    SELECT account_id, profile_type, min(first_us) AS horizon_us
    FROM counted_buckets
    WHERE later_samples IS NULL OR later_samples < 21
    GROUP BY account_id, profile_type, fourth_us
    HAVING min(first_us) <= fourth_us
),
sampled AS (
    SELECT
        restless.account_id,
        restless.profile_type,
        samples.sampled_us,
        dense_rank() OVER (
            PARTITION BY restless.account_id, restless.profile_type ORDER BY samples.sampled_us DESC
        ) AS recency
    FROM restless
    INNER JOIN _samples AS samples
        ON restless.account_id = samples.account_id AND restless.horizon_us <= samples.sampled_us
    WHERE CASE restless.profile_type WHEN 'calendar' THEN samples.calendar ELSE samples.conferencing END = 1
),
recent_samples AS (
    SELECT DISTINCT account_id, profile_type, sampled_us, recency
    FROM sampled
    WHERE recency <= 21
),
flapping AS (
    SELECT
        changes.account_id,
        changes.profile_type,
        changes.profile_id,
        changes.first_seen_us,
        max(CASE WHEN changes.recency = 1 THEN changes.state END) AS state,
        count(*) AS state_changes,
        max(changes.start_us) AS last_changed_us
    FROM changes
    INNER JOIN recent_samples
        ON
            changes.account_id = recent_samples.account_id
            AND changes.profile_type = recent_samples.profile_type
            AND changes.start_us = recent_samples.sampled_us
    WHERE recent_samples.recency <= 20
    GROUP BY changes.account_id, changes.profile_type, changes.profile_id, changes.first_seen_us
    HAVING count(*) >= 4
),
counted AS (
    SELECT
        flapping.account_id,
        flapping.profile_type,
        flapping.profile_id,
        flapping.state,
        flapping.state_changes,
        flapping.last_changed_us,
        count(*) AS samples
    FROM flapping
    INNER JOIN recent_samples
        ON
            flapping.account_id = recent_samples.account_id
            AND flapping.profile_type = recent_samples.profile_type
            AND flapping.first_seen_us <= recent_samples.sampled_us
    GROUP BY
        flapping.account_id,
        flapping.profile_type,
        flapping.profile_id,
        flapping.state,
        flapping.state_changes,
        flapping.last_changed_us
)
SELECT
    counted.account_id,
    counted.profile_type,
    counted.profile_id,
    names.provider_name,
    names.provider_service,
    counted.state,
    counted.samples,
    counted.state_changes,
    CAST(counted.state_changes AS DOUBLE) / 20 AS change_ratio,
    make_timestamptz(counted.last_changed_us) AS last_changed_at
FROM counted
INNER JOIN _profile_names AS names
    ON
        counted.account_id = names.account_id
        AND counted.profile_type = names.profile_type
        AND counted.profile_id = names.profile_id
