-- mass_events: one row per UTC hour and customer, e-mail domain or provider of which many connections broke in it.
-- Five outages or more that were first seen in the hour, and at least a fifth of the profiles that were connected
-- there. Outages that were already down when first seen do not count.
--
-- hour: its start, UTC
-- grouped_by: customer, email_domain or provider
-- name: which one
-- outages: first seen in the hour
-- accounts: how many accounts they are of
-- connected: profiles that were connected at their last sample before the hour or, if they had none, their first in it
-- share: outages / connected
WITH broken AS (
    SELECT
        account_id, profile_type, profile_id, provider, customer, email_domain,
        date_trunc('hour', first_seen_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS hour
    FROM outages
    LEFT JOIN (SELECT account_id, email_domain FROM _accounts) AS domains USING (account_id)
    WHERE started_after IS NOT NULL
),
grouped AS (
    SELECT hour, 'provider' AS grouped_by, provider AS name, account_id FROM broken
    UNION ALL
    SELECT hour, 'customer' AS grouped_by, customer AS name, account_id FROM broken WHERE customer IS NOT NULL
    UNION ALL
    SELECT hour, 'email_domain' AS grouped_by, email_domain AS name, account_id
    FROM broken
    WHERE email_domain IS NOT NULL
),
candidates AS (
    SELECT hour, grouped_by, name, count(*) AS outages, count(DISTINCT account_id) AS accounts
    FROM grouped
    GROUP BY hour, grouped_by, name
    HAVING count(*) >= 5
),
hours AS (
    SELECT DISTINCT hour FROM candidates
),
standing_then AS (
    -- after a gap nobody knows who is still connected, so what counts is the last sample, however old it is
    SELECT hour, provider, customer, email_domain, CASE state WHEN 'connected' THEN 1 END AS is_connected
    FROM _state_runs
    INNER JOIN hours
        ON
            (first_sample_at < hour OR (previous_state IS NULL AND first_sample_at < hour + INTERVAL '1 hour'))
            AND (is_newest OR ended_at >= hour)
    LEFT JOIN _accounts USING (account_id)
),
connected_then AS (
    SELECT hour, 'provider' AS grouped_by, provider AS name, count(is_connected) AS connected
    FROM standing_then
    GROUP BY hour, provider
    UNION ALL
    SELECT hour, 'customer' AS grouped_by, customer AS name, count(is_connected) AS connected
    FROM standing_then
    GROUP BY hour, customer
    UNION ALL
    SELECT hour, 'email_domain' AS grouped_by, email_domain AS name, count(is_connected) AS connected
    FROM standing_then
    GROUP BY hour, email_domain
)
SELECT
    hour, grouped_by, name, outages, accounts, connected,
    CAST(outages AS DOUBLE) / connected AS share
FROM candidates
INNER JOIN connected_then USING (hour, grouped_by, name)
WHERE connected > 0 AND outages * 5 >= connected
