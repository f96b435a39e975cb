-- outages: one row per profile and maximal run of disconnected samples.
-- Unknown gaps inside do not split an outage; the first connected or removed sample ends it. A sample is an ok poll
-- of the account that lists the profile's type, so all times below are times at which somebody looked.
--
-- account_id, profile_type, profile_id
-- provider_name, provider_service: newest known
-- started_after: last sample before it that was not disconnected; null: already down when first seen
-- first_seen_at, last_seen_at: first and last sample of the run
-- ended_at: first later sample that is not disconnected; null while open
-- end_reason: relinked, removed or open
-- min_seconds: last_seen_at - first_seen_at, the time it was certainly down
-- max_seconds: ended_at - started_after, the time it was possibly down; null if either is
-- seconds: coalesce(ended_at, last_seen_at) - first_seen_at
-- relink_url: newest known; open outages only
WITH found AS (
    SELECT
        account_id,
        profile_type,
        profile_id,
        first_seen_us,
        broken_us,
        ended_us,
        end_reason,
        newest_us,
        duration_us
    FROM _outages
),
-- both ends of an outage ask for the sample before them
ends AS (
    SELECT account_id, profile_type, profile_id, first_seen_us, 'start' AS which_end, broken_us AS instant_us
    FROM found
    WHERE broken_us IS NOT NULL
    UNION ALL
    SELECT account_id, profile_type, profile_id, first_seen_us, 'end' AS which_end, ended_us AS instant_us
    FROM found
    WHERE ended_us IS NOT NULL
),
-- nearly always there is one in the end's own stretch of `hold` or in the stretch before
stretches AS (
    SELECT *, instant_us - instant_us % $hold_us AS bucket_us
    FROM ends
    UNION ALL
    SELECT *, instant_us - instant_us % $hold_us - $hold_us AS bucket_us
    FROM ends
),
near_samples AS (
    SELECT
        stretches.account_id,
        stretches.profile_type,
        stretches.profile_id,
        stretches.first_seen_us,
        stretches.which_end,
        max(samples.sampled_us) AS before_us
    FROM stretches
    INNER JOIN _samples AS samples
        ON stretches.account_id = samples.account_id AND stretches.bucket_us = samples.bucket_us
    WHERE
        samples.sampled_us < stretches.instant_us
        AND CASE stretches.profile_type WHEN 'calendar' THEN samples.calendar ELSE samples.conferencing END = 1
    GROUP BY
        stretches.account_id,
        stretches.profile_type,
        stretches.profile_id,
        stretches.first_seen_us,
        stretches.which_end
),
-- what is left came after a gap: only the accounts that had one are worth looking through
lonely AS (
    SELECT ends.account_id, ends.profile_type, ends.profile_id, ends.first_seen_us, ends.which_end, ends.instant_us
    FROM ends
    LEFT JOIN near_samples
        ON
            ends.account_id = near_samples.account_id
            AND ends.profile_type = near_samples.profile_type
            AND ends.profile_id = near_samples.profile_id
            AND ends.first_seen_us = near_samples.first_seen_us
            AND ends.which_end = near_samples.which_end
    WHERE near_samples.account_id IS NULL
),
lonely_buckets AS (
    SELECT
        account_id,
        bucket_us,
        max(CASE WHEN calendar = 1 THEN sampled_us END) AS last_calendar_us,
        max(CASE WHEN conferencing = 1 THEN sampled_us END) AS last_conferencing_us
    FROM _samples
    WHERE account_id IN (SELECT account_id FROM lonely)
    GROUP BY account_id, bucket_us
),
samples_before AS (
    SELECT account_id, profile_type, profile_id, first_seen_us, which_end, before_us
    FROM near_samples
    UNION ALL
    SELECT
        lonely.account_id,
        lonely.profile_type,
        lonely.profile_id,
        lonely.first_seen_us,
        lonely.which_end,
        CASE lonely.profile_type
            WHEN 'calendar' THEN buckets.last_calendar_us ELSE buckets.last_conferencing_us
        END AS before_us
    FROM lonely
    INNER JOIN lonely_buckets AS buckets
        ON lonely.account_id = buckets.account_id AND lonely.instant_us > buckets.bucket_us + $hold_us
),
-- put together by adding up, not by joining: PostgreSQL expects few rows here and would join in nested loops
pieces AS (
    SELECT
        account_id,
        profile_type,
        profile_id,
        first_seen_us,
        CAST(NULL AS BIGINT) AS before_start_us,
        CAST(NULL AS BIGINT) AS before_end_us,
        ended_us,
        end_reason,
        newest_us,
        duration_us
    FROM found
    UNION ALL
    SELECT
        account_id,
        profile_type,
        profile_id,
        first_seen_us,
        CASE which_end WHEN 'start' THEN before_us END AS before_start_us,
        CASE which_end WHEN 'end' THEN before_us END AS before_end_us,
        CAST(NULL AS BIGINT) AS ended_us,
        CAST(NULL AS TEXT) AS end_reason,
        CAST(NULL AS BIGINT) AS newest_us,
        CAST(NULL AS BIGINT) AS duration_us
    FROM samples_before
),
outages AS (
    SELECT
        account_id,
        profile_type,
        profile_id,
        max(before_start_us) AS started_after_us,
        first_seen_us,
        coalesce(max(before_end_us), max(newest_us)) AS last_seen_us,
        max(ended_us) AS ended_us,
        max(end_reason) AS end_reason,
        max(duration_us) AS duration_us
    FROM pieces
    GROUP BY account_id, profile_type, profile_id, first_seen_us
)
SELECT
    outages.account_id,
    outages.profile_type,
    outages.profile_id,
    names.provider_name,
    names.provider_service,
    make_timestamptz(outages.started_after_us) AS started_after,
    make_timestamptz(outages.first_seen_us) AS first_seen_at,
    make_timestamptz(outages.last_seen_us) AS last_seen_at,
    make_timestamptz(outages.ended_us) AS ended_at,
    outages.end_reason,
    CAST(outages.last_seen_us - outages.first_seen_us AS DOUBLE) / 1000000 AS min_seconds,
    CAST(outages.ended_us - outages.started_after_us AS DOUBLE) / 1000000 AS max_seconds,
    CAST(outages.duration_us AS DOUBLE) / 1000000 AS seconds,
    CASE WHEN outages.end_reason = 'open' THEN names.relink_url END AS relink_url
FROM outages
INNER JOIN _profile_names AS names
    ON
        outages.account_id = names.account_id
        AND outages.profile_type = names.profile_type
        AND outages.profile_id = names.profile_id
