-- poll_log: one row per poll: one attempt to read one endpoint for one token in a run.
-- The table polls, with whose account it was and what the outcome means. The only view that reads it: what it costs
-- grows with the polls that are kept.
--
-- polled_at: when the answer was received
-- run_id, token_key, account_id, customer, email, endpoint, data_center
-- outcome: how it ended
-- meaning: what that outcome means
-- http_status, attempts, refreshes, latency_ms, message, server_request_id
-- profiles, disconnected, conferencing_profiles, conferencing_disconnected: how many profiles the answer listed
-- is_late: true: it reached the warehouse after a newer poll, and changed nothing
-- requested_at: when the last request was sent
-- poll_id
SELECT
    polled_at, run_id, token_key, polls.account_id, customer, email, endpoint, data_center, outcome,
    CASE outcome
        WHEN 'ok' THEN 'a response of the documented shape'
        WHEN 'token_rejected' THEN 'the access token was refused, and a refresh did not help'
        WHEN 'grant_revoked' THEN 'the refresh token was refused (invalid_grant)'
        WHEN 'forbidden' THEN 'the token is good and lacks a scope'
        WHEN 'plan_required' THEN 'the Cronofy plan of the application lacks the endpoint'
        WHEN 'provider_locked' THEN 'Cronofy has no working credentials for the provider'
        WHEN 'rate_limited' THEN 'the application exceeded its limits'
        WHEN 'server_error' THEN 'an error of Cronofy, or of a proxy in between'
        WHEN 'timeout' THEN 'no answer within timeout'
        WHEN 'network_error' THEN 'no connection, or one that broke'
        WHEN 'bad_payload' THEN 'a response that is not of the documented shape; redirects and 404 too'
        WHEN 'skipped' THEN 'nothing was sent: the data center was down, or the endpoint not in the plan'
    END AS meaning,
    http_status, attempts, refreshes, latency_ms, message, server_request_id,
    profiles, disconnected, conferencing_profiles, conferencing_disconnected, is_late, requested_at, poll_id
FROM polls AS polls
LEFT JOIN _accounts AS accounts ON polls.account_id = accounts.account_id
