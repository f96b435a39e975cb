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
), nearby_days AS (
  SELECT
    token_key,
    endpoint,
    polled_us,
    day_us AS ok_day_us
  FROM failures
  UNION ALL
  SELECT
    token_key,
    endpoint,
    polled_us,
    day_us - 86400000000 AS ok_day_us
  FROM failures
), nearby AS (
  SELECT
    days.token_key,
    days.endpoint,
    days.polled_us,
    MAX(attempts.polled_us) AS ok_us
  FROM nearby_days AS days
  INNER JOIN cronofy._attempts AS attempts
    ON days.token_key = attempts.token_key
    AND days.endpoint = attempts.endpoint
    AND days.ok_day_us = attempts.day_us
    AND days.polled_us >= attempts.polled_us
  WHERE
    attempts.outcome = 'ok'
  GROUP BY
    days.token_key,
    days.endpoint,
    days.polled_us
), aged AS (
  SELECT
    failures.run_id,
    failures.token_key,
    failures.endpoint,
    failures.outcome,
    failures.polled_us,
    failures.day_us,
    nearby.ok_us
  FROM failures
  LEFT JOIN nearby
    ON failures.token_key = nearby.token_key
    AND failures.endpoint = nearby.endpoint
    AND failures.polled_us = nearby.polled_us
), unread AS (
  SELECT DISTINCT
    token_key,
    endpoint
  FROM aged
  WHERE
    ok_us IS NULL
), token_days AS (
  SELECT
    attempts.token_key,
    attempts.endpoint,
    attempts.day_us,
    MAX(CASE WHEN attempts.outcome = 'ok' THEN attempts.polled_us END) AS ok_us
  FROM cronofy._attempts AS attempts
  INNER JOIN unread
    ON attempts.token_key = unread.token_key AND attempts.endpoint = unread.endpoint
  GROUP BY
    attempts.token_key,
    attempts.endpoint,
    attempts.day_us
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
), ages AS (
  SELECT
    aged.run_id,
    aged.day_us,
    aged.outcome,
    MAX(aged.polled_us - COALESCE(aged.ok_us, earlier_days.ok_us)) AS age_us
  FROM aged
  LEFT JOIN earlier_days
    ON aged.token_key = earlier_days.token_key
    AND aged.endpoint = earlier_days.endpoint
    AND aged.day_us = earlier_days.day_us
  GROUP BY
    aged.run_id,
    aged.day_us,
    aged.outcome
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
