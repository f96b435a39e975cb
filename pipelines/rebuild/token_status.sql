-- token_status: one row per token that was polled, or has a row already.
-- A token is judged by the endpoint that carries its evidence: userinfo, or else the first of account, profiles and
-- calendars that was ever tried. Polls with outcome skipped are no attempts, late polls tell nothing. At one instant
-- an ok poll wins over a failed one.
--
-- What came before the horizon is known from the rows that are kept: the polls are deleted. Other columns than these
-- stay as they are; the digests go, so that the next answer is compared with what the warehouse holds.
WITH answers AS (
    SELECT token_key, account_id, endpoint, data_center, polled_at, outcome, poll_id, run_id
    FROM polls
    WHERE token_key IS NOT NULL AND polled_at IS NOT NULL AND coalesce(is_late, FALSE) = FALSE
),
tried AS (
    SELECT
        token_key,
        endpoint,
        max(CASE WHEN outcome <> 'skipped' THEN polled_at END) AS last_polled_at,
        max(CASE WHEN outcome = 'ok' THEN polled_at END) AS last_ok_at
    FROM answers
    GROUP BY token_key, endpoint
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
-- kept_failing_since: of failures that began before the horizon and have not ended since
judged AS (
    SELECT
        ranked.token_key,
        ranked.endpoint,
        ranked.last_polled_at,
        ranked.last_ok_at,
        CASE WHEN ranked.last_polled_at < $horizon THEN kept.last_outcome END AS kept_outcome,
        CASE
            WHEN
                kept.endpoint = ranked.endpoint
                AND kept.failing_since < $horizon
                AND (ranked.last_ok_at IS NULL OR ranked.last_ok_at < kept.failing_since)
                THEN kept.failing_since
        END AS kept_failing_since,
        kept.last_polled_at AS kept_polled_at,
        kept.consecutive_failures AS kept_failures
    FROM ranked
    LEFT JOIN token_status AS kept ON ranked.token_key = kept.token_key
    WHERE ranked.preference = 1
),
failures AS (
    SELECT
        judged.token_key,
        min(answers.polled_at) AS failing_since,
        count(DISTINCT answers.poll_id) AS failures,
        count(DISTINCT CASE WHEN answers.polled_at > judged.kept_polled_at THEN answers.poll_id END) AS new_failures,
        min(CASE WHEN answers.polled_at = judged.last_polled_at THEN answers.outcome END) AS last_outcome
    FROM judged
    INNER JOIN answers ON judged.token_key = answers.token_key AND judged.endpoint = answers.endpoint
    WHERE
        answers.outcome NOT IN ('ok', 'skipped')
        AND (judged.last_ok_at IS NULL OR answers.polled_at > judged.last_ok_at)
    GROUP BY judged.token_key
),
times AS (
    SELECT
        token_key,
        max(polled_at) AS newest_at,
        max(CASE WHEN outcome <> 'skipped' AND account_id IS NOT NULL THEN polled_at END) AS named_at,
        max(CASE WHEN outcome <> 'skipped' AND endpoint = 'account' THEN polled_at END) AS account_polled_at,
        max(CASE WHEN outcome = 'ok' AND endpoint = 'account' THEN polled_at END) AS account_ok_at,
        max(CASE WHEN outcome <> 'skipped' AND endpoint = 'profiles' THEN polled_at END) AS profiles_polled_at,
        max(CASE WHEN outcome = 'ok' AND endpoint = 'profiles' THEN polled_at END) AS profiles_ok_at
    FROM answers
    GROUP BY token_key
),
newest AS (
    SELECT
        times.token_key,
        max(
            CASE WHEN answers.polled_at = times.named_at AND answers.outcome <> 'skipped' THEN answers.account_id END
            COLLATE "C"
        ) AS account_id,
        max(CASE WHEN answers.polled_at = times.newest_at THEN answers.data_center END COLLATE "C") AS data_center,
        max(CASE WHEN answers.polled_at = times.newest_at THEN answers.run_id END COLLATE "C") AS run_id
    FROM times
    INNER JOIN answers
        ON
            times.token_key = answers.token_key
            AND (answers.polled_at = times.newest_at OR answers.polled_at = times.named_at)
    GROUP BY times.token_key
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
        ELSE coalesce(judged.kept_outcome, failures.last_outcome)
    END AS last_outcome,
    coalesce(judged.kept_failing_since, failures.failing_since) AS failing_since,
    CASE
        WHEN judged.kept_failing_since IS NOT NULL THEN judged.kept_failures + coalesce(failures.new_failures, 0)
        ELSE coalesce(failures.failures, 0)
    END AS consecutive_failures,
    coalesce(times.account_polled_at, CASE WHEN kept.account_polled_at < $horizon THEN kept.account_polled_at END)
        AS account_polled_at,
    coalesce(times.account_ok_at, CASE WHEN kept.account_ok_at < $horizon THEN kept.account_ok_at END)
        AS account_ok_at,
    coalesce(times.profiles_polled_at, CASE WHEN kept.profiles_polled_at < $horizon THEN kept.profiles_polled_at END)
        AS profiles_polled_at,
    coalesce(times.profiles_ok_at, CASE WHEN kept.profiles_ok_at < $horizon THEN kept.profiles_ok_at END)
        AS profiles_ok_at,
    CAST(NULL AS TEXT) AS userinfo_digest,
    CAST(NULL AS TEXT) AS account_digest,
    CAST(NULL AS TEXT) AS profiles_digest,
    newest.run_id
FROM times
INNER JOIN judged ON times.token_key = judged.token_key
INNER JOIN newest ON times.token_key = newest.token_key
LEFT JOIN failures ON times.token_key = failures.token_key
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
    CASE WHEN kept.is_explained = 1 THEN kept.account_polled_at END AS account_polled_at,
    CASE WHEN kept.is_explained = 1 THEN kept.account_ok_at END AS account_ok_at,
    CASE WHEN kept.is_explained = 1 THEN kept.profiles_polled_at END AS profiles_polled_at,
    CASE WHEN kept.is_explained = 1 THEN kept.profiles_ok_at END AS profiles_ok_at,
    CAST(NULL AS TEXT) AS userinfo_digest,
    CAST(NULL AS TEXT) AS account_digest,
    CAST(NULL AS TEXT) AS profiles_digest,
    kept.run_id
FROM unpolled AS kept
