WITH polling_runs AS (
  SELECT
    *,
    EXTRACT(DATE FROM TIMESTAMP(DATETIME(first_polled_at, 'UTC'))) AS day
  FROM `my-project`.cronofy.runs
  WHERE
    polled + skipped > 0
)
SELECT
  CASE WHEN run_id IS NULL THEN 'day' ELSE 'run' END AS grain,
  run_id,
  day,
  MIN(first_polled_at) AS started_at,
  MAX(last_polled_at) AS ended_at,
  CAST(SUM(polled) AS INT64) AS polled,
  CAST(SUM(ok) AS INT64) AS ok,
  CAST(SUM(failed) AS INT64) AS failed,
  CAST(SUM(token_rejected) AS INT64) AS token_rejected,
  CAST(SUM(grant_revoked) AS INT64) AS grant_revoked,
  CAST(SUM(forbidden) AS INT64) AS forbidden,
  CAST(SUM(plan_required) AS INT64) AS plan_required,
  CAST(SUM(provider_locked) AS INT64) AS provider_locked,
  CAST(SUM(rate_limited) AS INT64) AS rate_limited,
  CAST(SUM(server_error) AS INT64) AS server_error,
  CAST(SUM(timeout) AS INT64) AS timeout,
  CAST(SUM(network_error) AS INT64) AS network_error,
  CAST(SUM(bad_payload) AS INT64) AS bad_payload,
  CAST(SUM(skipped) AS INT64) AS skipped,
  MAX(oldest_evidence_age_seconds) AS oldest_evidence_age_seconds
FROM polling_runs
GROUP BY
  GROUPING SETS (
    (run_id, day),
    (
      day
    )
  )
