-- token_status: one row per token that was polled, or has a row already.
-- A token is judged by the endpoint that carries its evidence: userinfo, or else the first of account, profiles and
-- calendars that was ever tried. Polls with outcome skipped are no attempts, late polls tell nothing. At one instant
-- an ok poll wins over a failed one.
--
-- What came before the horizon is known from the rows that are kept: the polls are deleted. Other columns than these
-- stay as they are, but for the digests, which go.
WITH answers AS (
    SELECT token_key, account_id, endpoint, data_center, polled_at, outcome, poll_id, run_id
    FROM polls
    WHERE token_key IS NOT NULL AND polled_at IS NOT NULL AND coalesce(is_late, FALSE) = FALSE
),
-- named_at: when an attempt last named the account
polled AS (
    SELECT
        token_key,
        endpoint,
        max(polled_at) AS newest_at,
        max(CASE WHEN outcome <> 'skipped' AND account_id IS NOT NULL THEN polled_at END) AS named_at,
        max(CASE WHEN outcome <> 'skipped' THEN polled_at END) AS last_polled_at,
        max(CASE WHEN outcome = 'ok' THEN polled_at END) AS last_ok_at
    FROM answers
    GROUP BY token_key, endpoint
),
times AS (
    SELECT
        token_key,
        max(newest_at) AS newest_at,
        max(named_at) AS named_at,
        max(CASE WHEN endpoint = 'account' THEN last_polled_at END) AS account_polled_at,
        max(CASE WHEN endpoint = 'account' THEN last_ok_at END) AS account_ok_at,
        max(CASE WHEN endpoint = 'profiles' THEN last_polled_at END) AS profiles_polled_at,
        max(CASE WHEN endpoint = 'profiles' THEN last_ok_at END) AS profiles_ok_at
    FROM polled
    GROUP BY token_key
),
tried AS (
    SELECT token_key, endpoint, last_polled_at, last_ok_at
    FROM polled
    UNION ALL
    SELECT
        token_key,
        endpoint,
        CASE WHEN last_polled_at < $horizon THEN last_polled_at END AS last_polled_at,
        CASE WHEN last_ok_at < $horizon THEN last_ok_at END AS last_ok_at
    FROM token_status
    WHERE endpoint IS NOT NULL AND $horizon > $beginning
),
endpoints AS (
    SELECT token_key, endpoint, max(last_polled_at) AS last_polled_at, max(last_ok_at) AS last_ok_at
    FROM tried
    GROUP BY token_key, endpoint
),
ranked AS (
    SELECT
        token_key,
        endpoint,
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
    SELECT times.token_key, times.newest_at, times.named_at, ranked.endpoint, ranked.last_polled_at, ranked.last_ok_at
    FROM times
    INNER JOIN ranked ON times.token_key = ranked.token_key
    WHERE ranked.preference = 1
),
marked AS (
    SELECT
        answers.token_key,
        answers.account_id,
        answers.data_center,
        answers.run_id,
        answers.poll_id,
        answers.polled_at,
        answers.outcome,
        judged.last_polled_at,
        CASE WHEN answers.polled_at = judged.newest_at THEN 1 ELSE 0 END AS is_newest,
        CASE WHEN answers.polled_at = judged.named_at AND answers.outcome <> 'skipped' THEN 1 ELSE 0 END AS is_naming,
        CASE
            WHEN
                answers.endpoint = judged.endpoint
                AND answers.outcome NOT IN ('ok', 'skipped')
                AND (judged.last_ok_at IS NULL OR answers.polled_at > judged.last_ok_at)
                THEN 1
            ELSE 0
        END AS is_failure
    FROM judged
    INNER JOIN answers ON judged.token_key = answers.token_key
),
-- new_failures: of failures, those that the kept row cannot have counted
newest AS (
    SELECT
        marked.token_key,
        max(CASE WHEN marked.is_naming = 1 THEN marked.account_id END COLLATE "C") AS account_id,
        max(CASE WHEN marked.is_newest = 1 THEN marked.data_center END COLLATE "C") AS data_center,
        max(CASE WHEN marked.is_newest = 1 THEN marked.run_id END COLLATE "C") AS run_id,
        min(CASE WHEN marked.is_failure = 1 THEN marked.polled_at END) AS failing_since,
        count(DISTINCT CASE WHEN marked.is_failure = 1 THEN marked.poll_id END) AS failures,
        count(
            DISTINCT CASE WHEN marked.is_failure = 1 AND marked.polled_at > kept.last_polled_at THEN marked.poll_id END
        ) AS new_failures,
        min(CASE WHEN marked.is_failure = 1 AND marked.polled_at = marked.last_polled_at THEN marked.outcome END)
            AS last_outcome
    FROM marked
    LEFT JOIN token_status AS kept ON marked.token_key = kept.token_key
    WHERE marked.is_newest = 1 OR marked.is_naming = 1 OR marked.is_failure = 1
    GROUP BY marked.token_key
),
-- failing_since: of failures that began before the horizon and have not ended since
continued AS (
    SELECT judged.token_key, kept.failing_since, kept.consecutive_failures
    FROM judged
    INNER JOIN token_status AS kept ON judged.token_key = kept.token_key AND judged.endpoint = kept.endpoint
    WHERE kept.failing_since < $horizon AND (judged.last_ok_at IS NULL OR judged.last_ok_at < kept.failing_since)
),
unpolled AS (
    SELECT
        kept.token_key,
        kept.account_id,
        kept.data_center,
        kept.has_token,
        kept.endpoint,
        kept.last_polled_at,
        kept.last_ok_at,
        kept.last_outcome,
        kept.failing_since,
        kept.consecutive_failures,
        kept.account_polled_at,
        kept.account_ok_at,
        kept.profiles_polled_at,
        kept.profiles_ok_at,
        kept.run_id,
        CASE
            WHEN kept.last_polled_at IS NULL AND (kept.endpoint IS NULL OR $horizon > $beginning) THEN 1
            WHEN kept.last_polled_at < $horizon THEN 1
            ELSE 0
        END AS is_explained
    FROM token_status AS kept
    LEFT JOIN times ON kept.token_key = times.token_key
    WHERE times.token_key IS NULL
)
SELECT
    times.token_key,
    coalesce(newest.account_id, CASE WHEN $horizon > $beginning THEN kept.account_id END) AS account_id,
    newest.data_center,
    coalesce(kept.has_token, TRUE) AS has_token,
    judged.endpoint,
    judged.last_polled_at,
    judged.last_ok_at,
    CASE
        WHEN judged.last_polled_at = judged.last_ok_at THEN 'ok'
        WHEN judged.last_polled_at < $horizon THEN kept.last_outcome
        ELSE newest.last_outcome
    END AS last_outcome,
    coalesce(continued.failing_since, newest.failing_since) AS failing_since,
    CASE
        WHEN continued.token_key IS NOT NULL THEN continued.consecutive_failures + newest.new_failures
        ELSE newest.failures
    END AS consecutive_failures,
    coalesce(times.account_polled_at, CASE WHEN kept.account_polled_at < $horizon THEN kept.account_polled_at END)
        AS account_polled_at,
    coalesce(times.account_ok_at, CASE WHEN kept.account_ok_at < $horizon THEN kept.account_ok_at END)
        AS account_ok_at,
    coalesce(times.profiles_polled_at, CASE WHEN kept.profiles_polled_at < $horizon THEN kept.profiles_polled_at END)
        AS profiles_polled_at,
    coalesce(times.profiles_ok_at, CASE WHEN kept.profiles_ok_at < $horizon THEN kept.profiles_ok_at END)
        AS profiles_ok_at,
    newest.run_id
FROM times
INNER JOIN judged ON times.token_key = judged.token_key
INNER JOIN newest ON times.token_key = newest.token_key
LEFT JOIN continued ON times.token_key = continued.token_key
LEFT JOIN token_status AS kept ON times.token_key = kept.token_key
UNION ALL
-- never polled, or all its polls are deleted; evidence that no poll ever explained goes
SELECT
    kept.token_key,
    CASE WHEN kept.is_explained = 1 THEN kept.account_id END AS account_id,
    kept.data_center,
    kept.has_token,
    CASE WHEN kept.is_explained = 1 THEN kept.endpoint END AS endpoint,
    CASE WHEN kept.is_explained = 1 THEN kept.last_polled_at END AS last_polled_at,
    CASE WHEN kept.is_explained = 1 THEN kept.last_ok_at END AS last_ok_at,
    CASE WHEN kept.is_explained = 1 THEN kept.last_outcome END AS last_outcome,
    CASE WHEN kept.is_explained = 1 THEN kept.failing_since END AS failing_since,
    CASE WHEN kept.is_explained = 1 THEN kept.consecutive_failures ELSE 0 END AS consecutive_failures,
    CASE WHEN kept.account_polled_at < $horizon THEN kept.account_polled_at END AS account_polled_at,
    CASE WHEN kept.account_ok_at < $horizon THEN kept.account_ok_at END AS account_ok_at,
    CASE WHEN kept.profiles_polled_at < $horizon THEN kept.profiles_polled_at END AS profiles_polled_at,
    CASE WHEN kept.profiles_ok_at < $horizon THEN kept.profiles_ok_at END AS profiles_ok_at,
    kept.run_id
FROM unpolled AS kept
