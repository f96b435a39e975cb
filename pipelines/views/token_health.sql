-- token_health: one row per token that was ever to be polled: does reading it still work?
-- A token is judged by the endpoint that carries its evidence: userinfo, or else the first of account and profiles that
-- was polled. A plan that forbids another endpoint does not make a token look broken. Polls with outcome skipped are no
-- attempts. At one instant an ok poll wins over a failed one.
--
-- token_key, account_id (null if never known)
-- endpoint: the one it is judged by
-- last_polled_at: newest attempt, null if all were skipped
-- last_ok_at: newest ok poll, null if there was none
-- last_outcome: outcome of the newest attempt
-- failing_since: first failed attempt after last_ok_at, null if the newest attempt was ok
-- consecutive_failures: failed attempts since then
SELECT
    token_key, account_id, endpoint, last_polled_at, last_ok_at, last_outcome, failing_since,
    coalesce(consecutive_failures, 0) AS consecutive_failures
FROM token_status
WHERE endpoint IS NOT NULL
