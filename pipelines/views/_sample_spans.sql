-- _sample_spans: one row per account, profile type and maximal span of time in which its profiles' states are known.
-- A sample is trusted for `hold`; samples closer together than that join into one span. No span passes as_of. Accounts
-- that never had a profile of the type are left out.
--
-- account_id, profile_type
-- start_us: first sample of the span
-- end_us: where the hold of its last sample runs out, or as_of if that is earlier
-- next_start_us: start of the next span, as_of after the last one; from end_us to here nothing is known
WITH buckets AS (
    SELECT account_id, profile_type, first_us, last_us, previous_us
    FROM _sample_buckets
),
newest_samples AS (
    SELECT account_id, profile_type, max(last_us) AS newest_us
    FROM buckets
    GROUP BY account_id, profile_type
),
profiled AS (
    SELECT DISTINCT account_id, profile_type
    FROM profile_changes
),
starts AS (
    SELECT account_id, profile_type, first_us AS start_us, previous_us
    FROM buckets
    WHERE previous_us IS NULL OR first_us > previous_us + $hold_us
),
spans AS (
    SELECT
        account_id,
        profile_type,
        start_us,
        lead(previous_us) OVER (PARTITION BY account_id, profile_type ORDER BY start_us) AS last_us,
        lead(start_us) OVER (PARTITION BY account_id, profile_type ORDER BY start_us) AS following_us
    FROM starts
),
held AS (
    SELECT
        spans.account_id,
        spans.profile_type,
        spans.start_us,
        coalesce(spans.last_us, newest_samples.newest_us) + $hold_us AS held_us,
        spans.following_us
    FROM spans
    INNER JOIN profiled
        ON spans.account_id = profiled.account_id AND spans.profile_type = profiled.profile_type
    INNER JOIN newest_samples
        ON spans.account_id = newest_samples.account_id AND spans.profile_type = newest_samples.profile_type
)
SELECT
    account_id,
    profile_type,
    start_us,
    CASE WHEN held_us < as_of_us THEN held_us ELSE as_of_us END AS end_us,
    coalesce(following_us, as_of_us) AS next_start_us
FROM held
CROSS JOIN _newest_poll
