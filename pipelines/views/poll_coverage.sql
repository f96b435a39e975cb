-- poll_coverage: one row per run (grain 'run') and one per UTC day (grain 'day').
-- How much of what was tried could be read, and how long the worst token had gone unread. A run counts to the day of
-- its first poll.
--
-- grain: run or day
-- run_id: null for a day
-- day: UTC day; of a run, that of its first poll
-- started_at, ended_at: first and last polled_at
-- polled: attempts, ok + failed; skipped polls are no attempts
-- ok, failed
-- token_rejected, grant_revoked, forbidden, plan_required, provider_locked, rate_limited, server_error, timeout,
--     network_error, bad_payload: failed polls by outcome
-- skipped
-- oldest_evidence_age_seconds: longest time between a poll, skipped ones included, and the newest ok poll of the same
--     token and endpoint up to then; 0 if all were ok, null if none of the tokens was ever read
WITH polling_runs AS (
    SELECT *, CAST(first_polled_at AT TIME ZONE 'UTC' AS DATE) AS day FROM runs WHERE polled + skipped > 0
)
SELECT
    CASE WHEN run_id IS NULL THEN 'day' ELSE 'run' END AS grain,
    run_id,
    day,
    min(first_polled_at) AS started_at,
    max(last_polled_at) AS ended_at,
    CAST(sum(polled) AS BIGINT) AS polled,
    CAST(sum(ok) AS BIGINT) AS ok,
    CAST(sum(failed) AS BIGINT) AS failed,
    CAST(sum(token_rejected) AS BIGINT) AS token_rejected,
    CAST(sum(grant_revoked) AS BIGINT) AS grant_revoked,
    CAST(sum(forbidden) AS BIGINT) AS forbidden,
    CAST(sum(plan_required) AS BIGINT) AS plan_required,
    CAST(sum(provider_locked) AS BIGINT) AS provider_locked,
    CAST(sum(rate_limited) AS BIGINT) AS rate_limited,
    CAST(sum(server_error) AS BIGINT) AS server_error,
    CAST(sum(timeout) AS BIGINT) AS timeout,
    CAST(sum(network_error) AS BIGINT) AS network_error,
    CAST(sum(bad_payload) AS BIGINT) AS bad_payload,
    CAST(sum(skipped) AS BIGINT) AS skipped,
    max(oldest_evidence_age_seconds) AS oldest_evidence_age_seconds
FROM polling_runs
GROUP BY GROUPING SETS ((run_id, day), (day))
