-- token_health: one row per token of the store, and of those that were in it: does reading it still work?
-- A token is judged by the endpoint that carries its evidence: userinfo, or else the first of account and profiles that
-- was polled. A plan that forbids another endpoint does not make a token look broken. Polls with outcome skipped are no
-- attempts. At one instant an ok poll wins over a failed one.
--
-- token_key, account_id (null if never known)
-- application, customer, email, email_domain, name
-- verdict: left; not_connected: a user without a token; not_polled: not tried yet; readable; authorize: rejected or
--     revoked; widen_scope: refused for lack of scope; failing: another failure, which may pass by itself
-- endpoint: the one it is judged by
-- last_polled_at: newest attempt, null if all were skipped
-- last_ok_at: newest ok poll, null if there was none
-- last_outcome: outcome of the newest attempt
-- failing_since: first failed attempt after last_ok_at, null if the newest attempt was ok
-- consecutive_failures: failed attempts since then
-- left_at, has_token
SELECT
    token_key, account_id, application,
    coalesce(token_status.customer, accounts.customer) AS customer,
    email, email_domain, name,
    CASE
        WHEN token_status.left_at IS NOT NULL THEN 'left'
        WHEN NOT coalesce(has_token, TRUE) THEN 'not_connected'
        WHEN last_outcome IS NULL THEN 'not_polled'
        WHEN last_outcome = 'ok' THEN 'readable'
        WHEN last_outcome IN ('token_rejected', 'grant_revoked') THEN 'authorize'
        WHEN last_outcome = 'forbidden' THEN 'widen_scope'
        ELSE 'failing'
    END AS verdict,
    endpoint, last_polled_at, last_ok_at, last_outcome, failing_since,
    coalesce(consecutive_failures, 0) AS consecutive_failures,
    token_status.left_at, has_token
FROM token_status AS token_status
LEFT JOIN _accounts AS accounts USING (account_id)
