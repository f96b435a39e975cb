-- runs: one row per run that polled, changed something, or has a row already.
-- Each poll counts once, late ones too; its times are those of polls that are not late. A run that nothing but its
-- changes names was killed before its polls arrived.
--
-- A run that began before the horizon keeps its counts: some or all of its polls are deleted. So does one that had
-- nothing to poll. Other columns than these stay as they are.
WITH answers AS (
    SELECT
        run_id,
        poll_id,
        max(outcome) AS outcome,
        max(attempts + coalesce(refreshes, 0)) AS requests,
        max(CASE WHEN is_late THEN 1 ELSE 0 END) AS is_late,
        min(polled_at) AS polled_at
    FROM polls
    WHERE run_id IS NOT NULL
    GROUP BY run_id, poll_id
),
counts AS (
    SELECT
        run_id,
        min(polled_at) AS started_at,
        max(polled_at) AS finished_at,
        count(CASE WHEN outcome <> 'skipped' THEN 1 END) AS polled,
        count(CASE WHEN outcome = 'ok' THEN 1 END) AS ok,
        count(CASE WHEN outcome NOT IN ('ok', 'skipped') THEN 1 END) AS failed,
        count(CASE WHEN outcome = 'skipped' THEN 1 END) AS skipped,
        count(CASE WHEN outcome = 'token_rejected' THEN 1 END) AS token_rejected,
        count(CASE WHEN outcome = 'grant_revoked' THEN 1 END) AS grant_revoked,
        count(CASE WHEN outcome = 'forbidden' THEN 1 END) AS forbidden,
        count(CASE WHEN outcome = 'plan_required' THEN 1 END) AS plan_required,
        count(CASE WHEN outcome = 'provider_locked' THEN 1 END) AS provider_locked,
        count(CASE WHEN outcome = 'rate_limited' THEN 1 END) AS rate_limited,
        count(CASE WHEN outcome = 'server_error' THEN 1 END) AS server_error,
        count(CASE WHEN outcome = 'timeout' THEN 1 END) AS timeout,
        count(CASE WHEN outcome = 'network_error' THEN 1 END) AS network_error,
        count(CASE WHEN outcome = 'bad_payload' THEN 1 END) AS bad_payload,
        CAST(sum(requests) AS BIGINT) AS requests,
        min(CASE WHEN is_late = 0 THEN polled_at END) AS first_polled_at,
        max(CASE WHEN is_late = 0 THEN polled_at END) AS last_polled_at
    FROM answers
    GROUP BY run_id
),
changed AS (
    SELECT run_id, count(DISTINCT change_id) AS changes, min(observed_at) AS started_at
    FROM profile_changes
    WHERE run_id IS NOT NULL
    GROUP BY run_id
),
untouched AS (
    SELECT kept.run_id
    FROM runs AS kept
    LEFT JOIN counts ON kept.run_id = counts.run_id
    WHERE
        kept.started_at < $horizon
        OR kept.first_polled_at < $horizon
        OR (
            counts.run_id IS NULL
            AND kept.finished_at IS NOT NULL
            AND coalesce(kept.polled, 0) + coalesce(kept.skipped, 0) = 0
        )
),
found AS (
    SELECT DISTINCT run_id
    FROM (
        SELECT run_id FROM counts
        UNION ALL
        SELECT run_id FROM changed
        UNION ALL
        SELECT run_id FROM runs
    ) AS named
)
SELECT
    found.run_id,
    coalesce(kept.started_at, counts.started_at, changed.started_at) AS started_at,
    CASE WHEN kept.run_id IS NULL THEN counts.finished_at ELSE kept.finished_at END AS finished_at,
    CASE WHEN kept.run_id IS NULL AND counts.run_id IS NULL THEN 'killed' ELSE kept.stopped_by END AS stopped_by,
    coalesce(counts.polled, 0) AS polled,
    coalesce(counts.ok, 0) AS ok,
    coalesce(counts.failed, 0) AS failed,
    coalesce(counts.skipped, 0) AS skipped,
    coalesce(counts.token_rejected, 0) AS token_rejected,
    coalesce(counts.grant_revoked, 0) AS grant_revoked,
    coalesce(counts.forbidden, 0) AS forbidden,
    coalesce(counts.plan_required, 0) AS plan_required,
    coalesce(counts.provider_locked, 0) AS provider_locked,
    coalesce(counts.rate_limited, 0) AS rate_limited,
    coalesce(counts.server_error, 0) AS server_error,
    coalesce(counts.timeout, 0) AS timeout,
    coalesce(counts.network_error, 0) AS network_error,
    coalesce(counts.bad_payload, 0) AS bad_payload,
    coalesce(counts.requests, 0) AS requests,
    coalesce(changed.changes, 0) AS changes,
    counts.first_polled_at,
    counts.last_polled_at
FROM found
LEFT JOIN counts ON found.run_id = counts.run_id
LEFT JOIN changed ON found.run_id = changed.run_id
LEFT JOIN runs AS kept ON found.run_id = kept.run_id
LEFT JOIN untouched ON found.run_id = untouched.run_id
WHERE untouched.run_id IS NULL
UNION ALL
SELECT
    kept.run_id,
    kept.started_at,
    kept.finished_at,
    kept.stopped_by,
    kept.polled,
    kept.ok,
    kept.failed,
    kept.skipped,
    kept.token_rejected,
    kept.grant_revoked,
    kept.forbidden,
    kept.plan_required,
    kept.provider_locked,
    kept.rate_limited,
    kept.server_error,
    kept.timeout,
    kept.network_error,
    kept.bad_payload,
    kept.requests,
    kept.changes,
    kept.first_polled_at,
    kept.last_polled_at
FROM runs AS kept
INNER JOIN untouched ON kept.run_id = untouched.run_id
