-- token_health: one row per token: does reading it still work?
-- A token is judged by the endpoint that carries its evidence: userinfo, or else the first of account, profiles and
-- calendars that was ever tried. A plan that forbids another endpoint does not make a token look broken. Polls with
-- outcome skipped are no attempts. At one instant an ok poll wins over a failed one.
--
-- token_key, account_id (null if never known)
-- endpoint: the one it is judged by
-- last_polled_at: newest attempt, null if all were skipped
-- last_ok_at: newest ok poll, null if there was none
-- last_outcome: outcome of the newest attempt
-- failing_since: first failed attempt after last_ok_at, null if the newest attempt was ok
-- consecutive_failures: failed attempts since then
WITH endpoints AS (
    SELECT
        token_key,
        endpoint,
        max(account_id) AS account_id,
        max(CASE WHEN outcome <> 'skipped' THEN polled_at END) AS last_polled_at,
        max(CASE WHEN outcome = 'ok' THEN polled_at END) AS last_ok_at
    FROM polls
    GROUP BY token_key, endpoint
),
ranked AS (
    SELECT
        token_key,
        endpoint,
        max(account_id) OVER (PARTITION BY token_key) AS account_id,
        last_polled_at,
        last_ok_at,
        row_number() OVER (
            PARTITION BY token_key
            ORDER BY
                CASE WHEN last_polled_at IS NULL THEN 1 ELSE 0 END,
                CASE endpoint
                    WHEN 'userinfo' THEN 1 WHEN 'account' THEN 2 WHEN 'profiles' THEN 3 WHEN 'calendars' THEN 4 ELSE 5
                END,
                endpoint COLLATE "C"
        ) AS preference
    FROM endpoints
),
judged AS (
    SELECT token_key, account_id, endpoint, last_polled_at, last_ok_at
    FROM ranked
    WHERE preference = 1
),
failures AS (
    SELECT
        judged.token_key,
        min(polls.polled_at) AS failing_since,
        count(DISTINCT polls.poll_id) AS consecutive_failures,
        min(CASE WHEN polls.polled_at = judged.last_polled_at THEN polls.outcome END) AS last_outcome
    FROM judged
    INNER JOIN polls ON judged.token_key = polls.token_key AND judged.endpoint = polls.endpoint
    WHERE
        polls.outcome NOT IN ('ok', 'skipped')
        AND (judged.last_ok_at IS NULL OR polls.polled_at > judged.last_ok_at)
    GROUP BY judged.token_key
)
SELECT
    judged.token_key,
    judged.account_id,
    judged.endpoint,
    judged.last_polled_at,
    judged.last_ok_at,
    CASE WHEN judged.last_polled_at = judged.last_ok_at THEN 'ok' ELSE failures.last_outcome END AS last_outcome,
    failures.failing_since,
    coalesce(failures.consecutive_failures, 0) AS consecutive_failures
FROM judged
LEFT JOIN failures ON judged.token_key = failures.token_key
