WITH counts AS (
  SELECT
    run_id,
    day_us,
    outcome,
    COUNT(DISTINCT poll_id) AS polls,
    MIN(polled_us) AS first_us,
    MAX(polled_us) AS last_us
  FROM cronofy._attempts
  GROUP BY
    run_id,
    day_us,
    outcome
), failures AS (
  SELECT DISTINCT
    run_id,
    token_key,
    endpoint,
    outcome,
    polled_us,
    day_us
  FROM cronofy._attempts
  WHERE
    outcome <> 'ok'
), token_days AS (
  SELECT
    token_key,
    endpoint,
    day_us,
    MAX(CASE WHEN outcome = 'ok' THEN polled_us END) AS ok_us
  FROM cronofy._attempts
  GROUP BY
    token_key,
    endpoint,
    day_us
), earlier_days AS (
  SELECT
    token_key,
    endpoint,
    day_us,
    MAX(ok_us) OVER (
      PARTITION BY token_key, endpoint
      ORDER BY day_us
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS ok_us
  FROM token_days
), same_day AS (
  SELECT
    failures.token_key,
    failures.endpoint,
    failures.polled_us,
    MAX(attempts.polled_us) AS ok_us
  FROM failures
  INNER JOIN cronofy._attempts AS attempts
    ON failures.token_key = attempts.token_key
    AND failures.endpoint = attempts.endpoint
    AND failures.day_us = attempts.day_us
    AND failures.polled_us >= attempts.polled_us
  WHERE
    attempts.outcome = 'ok'
  GROUP BY
    failures.token_key,
    failures.endpoint,
    failures.polled_us
), ages AS (
  SELECT
    failures.run_id,
    failures.day_us,
    failures.outcome,
    MAX(failures.polled_us - COALESCE(same_day.ok_us, earlier_days.ok_us)) AS age_us
  FROM failures
  INNER JOIN earlier_days
    ON failures.token_key = earlier_days.token_key
    AND failures.endpoint = earlier_days.endpoint
    AND failures.day_us = earlier_days.day_us
  LEFT JOIN same_day
    ON failures.token_key = same_day.token_key
    AND failures.endpoint = same_day.endpoint
    AND failures.polled_us = same_day.polled_us
  GROUP BY
    failures.run_id,
    failures.day_us,
    failures.outcome
), outcomes AS (
  SELECT
    counts.run_id,
    counts.day_us,
    counts.outcome,
    counts.polls,
    counts.first_us,
    counts.last_us,
    CASE WHEN counts.outcome = 'ok' THEN 0 ELSE ages.age_us END AS age_us
  FROM counts
  LEFT JOIN ages
    ON counts.run_id = ages.run_id
    AND counts.day_us = ages.day_us
    AND counts.outcome = ages.outcome
), grains AS (
  SELECT
    'run' AS grain,
    run_id,
    MIN(day_us) OVER (PARTITION BY run_id) AS day_us,
    outcome,
    polls,
    first_us,
    last_us,
    age_us
  FROM outcomes
  UNION ALL
  SELECT
    'day' AS grain,
    CAST(NULL AS TEXT) AS run_id,
    day_us,
    outcome,
    polls,
    first_us,
    last_us,
    age_us
  FROM outcomes
), totals AS (
  SELECT
    grain,
    run_id,
    day_us,
    MIN(first_us) AS first_us,
    MAX(last_us) AS last_us,
    MAX(age_us) AS age_us,
    CAST(SUM(CASE WHEN outcome <> 'skipped' THEN polls ELSE 0 END) AS BIGINT) AS polled,
    CAST(SUM(CASE WHEN outcome = 'ok' THEN polls ELSE 0 END) AS BIGINT) AS ok,
    CAST(SUM(CASE WHEN NOT outcome IN ('ok', 'skipped') THEN polls ELSE 0 END) AS BIGINT) AS failed,
    CAST(SUM(CASE WHEN outcome = 'token_rejected' THEN polls ELSE 0 END) AS BIGINT) AS token_rejected,
    CAST(SUM(CASE WHEN outcome = 'grant_revoked' THEN polls ELSE 0 END) AS BIGINT) AS grant_revoked,
    CAST(SUM(CASE WHEN outcome = 'forbidden' THEN polls ELSE 0 END) AS BIGINT) AS forbidden,
    CAST(SUM(CASE WHEN outcome = 'plan_required' THEN polls ELSE 0 END) AS BIGINT) AS plan_required,
    CAST(SUM(CASE WHEN outcome = 'provider_locked' THEN polls ELSE 0 END) AS BIGINT) AS provider_locked,
    CAST(SUM(CASE WHEN outcome = 'rate_limited' THEN polls ELSE 0 END) AS BIGINT) AS rate_limited,
    CAST(SUM(CASE WHEN outcome = 'server_error' THEN polls ELSE 0 END) AS BIGINT) AS server_error,
    CAST(SUM(CASE WHEN outcome = 'timeout' THEN polls ELSE 0 END) AS BIGINT) AS timeout,
    CAST(SUM(CASE WHEN outcome = 'network_error' THEN polls ELSE 0 END) AS BIGINT) AS network_error,
    CAST(SUM(CASE WHEN outcome = 'bad_payload' THEN polls ELSE 0 END) AS BIGINT) AS bad_payload,
    CAST(SUM(CASE WHEN outcome = 'skipped' THEN polls ELSE 0 END) AS BIGINT) AS skipped
  FROM grains
  GROUP BY
    grain,
    run_id,
    day_us
)
SELECT
  grain,
  run_id,
  CAST('1970-01-01' AS DATE) + CAST(CAST(day_us AS DOUBLE PRECISION) / 86400000000 AS INT) AS day,
  CAST('1970-01-01 00:00:00+00' AS TIMESTAMPTZ) + first_us * INTERVAL '1 MICROSECOND' AS started_at,
  CAST('1970-01-01 00:00:00+00' AS TIMESTAMPTZ) + last_us * INTERVAL '1 MICROSECOND' AS ended_at,
  polled,
  ok,
  failed,
  token_rejected,
  grant_revoked,
  forbidden,
  plan_required,
  provider_locked,
  rate_limited,
  server_error,
  timeout,
  network_error,
  bad_payload,
  skipped,
  CAST(age_us AS DOUBLE PRECISION) / 1000000 AS oldest_evidence_age_seconds
FROM totals
