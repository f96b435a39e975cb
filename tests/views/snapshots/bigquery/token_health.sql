WITH endpoints AS (
  SELECT
    token_key,
    endpoint,
    MAX(account_id) AS account_id,
    MAX(CASE WHEN outcome <> 'skipped' THEN polled_at END) AS last_polled_at,
    MAX(CASE WHEN outcome = 'ok' THEN polled_at END) AS last_ok_at
  FROM `my-project`.cronofy.polls
  GROUP BY
    token_key,
    endpoint
), ranked AS (
  SELECT
    token_key,
    endpoint,
    MAX(account_id) OVER (PARTITION BY token_key) AS account_id,
    last_polled_at,
    last_ok_at,
    ROW_NUMBER() OVER (
      PARTITION BY token_key
      ORDER BY CASE WHEN last_polled_at IS NULL THEN 1 ELSE 0 END, CASE endpoint
        WHEN 'userinfo'
        THEN 1
        WHEN 'account'
        THEN 2
        WHEN 'profiles'
        THEN 3
        WHEN 'calendars'
        THEN 4
        ELSE 5
      END, endpoint
    ) AS preference
  FROM endpoints
), judged AS (
  SELECT
    token_key,
    account_id,
    endpoint,
    last_polled_at,
    last_ok_at
  FROM ranked
  WHERE
    preference = 1
), failures AS (
  SELECT
    judged.token_key,
    MIN(polls.polled_at) AS failing_since,
    COUNT(DISTINCT polls.poll_id) AS consecutive_failures,
    MIN(CASE WHEN polls.polled_at = judged.last_polled_at THEN polls.outcome END) AS last_outcome
  FROM judged
  INNER JOIN `my-project`.cronofy.polls
    ON judged.token_key = polls.token_key AND judged.endpoint = polls.endpoint
  WHERE
    NOT polls.outcome IN ('ok', 'skipped')
    AND (
      judged.last_ok_at IS NULL OR polls.polled_at > judged.last_ok_at
    )
  GROUP BY
    judged.token_key
)
SELECT
  judged.token_key,
  judged.account_id,
  judged.endpoint,
  judged.last_polled_at,
  judged.last_ok_at,
  CASE
    WHEN judged.last_polled_at = judged.last_ok_at
    THEN 'ok'
    ELSE failures.last_outcome
  END AS last_outcome,
  failures.failing_since,
  COALESCE(failures.consecutive_failures, 0) AS consecutive_failures
FROM judged
LEFT JOIN failures
  ON judged.token_key = failures.token_key
