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
WITH changes AS (
    -- after a gap nobody knows who is still connected, so what counts is the last sample, however old it is
    SELECT
        account_id, provider, customer, email_domain,
        date_trunc('hour', first_sample_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS hour,
        CASE WHEN state = 'disconnected' AND started_after IS NOT NULL THEN account_id END AS broken_account_id,
        CASE WHEN state = 'connected' AND previous_state IS NULL THEN 1 ELSE 0 END AS connected_first,
        CASE
            WHEN state = 'connected' AND previous_state IS NOT NULL THEN 1
            WHEN previous_state = 'connected' THEN -1
            ELSE 0
        END AS connected_later
    FROM _state_runs
    LEFT JOIN _accounts USING (account_id)
),
grouped AS (
    SELECT 'provider' AS grouped_by, provider AS name, * FROM changes
    UNION ALL
    SELECT 'customer' AS grouped_by, customer AS name, * FROM changes WHERE customer IS NOT NULL
    UNION ALL
    SELECT 'email_domain' AS grouped_by, email_domain AS name, * FROM changes WHERE email_domain IS NOT NULL
),
hours AS (
    SELECT
        hour, grouped_by, name,
        count(broken_account_id) AS outages,
        count(DISTINCT broken_account_id) AS accounts,
        sum(connected_first) AS connected_first,
        -- what changes in the hour counts from the next one on
        sum(connected_later) AS connected_later
    FROM grouped
    GROUP BY hour, grouped_by, name
),
running AS (
    SELECT
        hour, grouped_by, name, outages, accounts,
        CAST(
            sum(connected_first + connected_later) OVER (
                PARTITION BY grouped_by, name ORDER BY hour ROWS UNBOUNDED PRECEDING
            ) - connected_later
        AS BIGINT) AS connected
    FROM hours
)
SELECT
    hour, grouped_by, name, outages, accounts, connected,
    CAST(outages AS DOUBLE) / connected AS share
FROM running
WHERE outages >= 5 AND connected > 0 AND outages * 5 >= connected
