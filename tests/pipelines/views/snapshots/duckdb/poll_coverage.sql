WITH polling_runs AS (
  SELECT
    *,
    CAST(first_polled_at AT TIME ZONE 'UTC' AS DATE) AS day
  FROM runs
  WHERE
    polled + skipped > 0
)
SELECT
  CASE WHEN run_id IS NULL THEN 'day' ELSE 'run' END AS grain,
  run_id,
  day,
  MIN(first_polled_at) AS started_at,
  MAX(last_polled_at) AS ended_at,
  CAST(SUM(polled) AS BIGINT) AS polled,
  CAST(SUM(ok) AS BIGINT) AS ok,
  CAST(SUM(failed) AS BIGINT) AS failed,
  CAST(SUM(token_rejected) AS BIGINT) AS token_rejected,
  CAST(SUM(grant_revoked) AS BIGINT) AS grant_revoked,
  CAST(SUM(forbidden) AS BIGINT) AS forbidden,
  CAST(SUM(plan_required) AS BIGINT) AS plan_required,
  CAST(SUM(provider_locked) AS BIGINT) AS provider_locked,
  CAST(SUM(rate_limited) AS BIGINT) AS rate_limited,
  CAST(SUM(server_error) AS BIGINT) AS server_error,
  CAST(SUM(timeout) AS BIGINT) AS timeout,
  CAST(SUM(network_error) AS BIGINT) AS network_error,
  CAST(SUM(bad_payload) AS BIGINT) AS bad_payload,
  CAST(SUM(skipped) AS BIGINT) AS skipped,
  MAX(oldest_evidence_age_seconds) AS oldest_evidence_age_seconds
FROM polling_runs
GROUP BY
  GROUPING SETS (
    (run_id, day),
    (
      day
    )
  )
