-- freshness: one row per provider, and for 'all' of them: how old the newest evidence of each token is.
-- A token counts for every provider that its account has a profile of. Tokens that cannot be read are counted apart,
-- so that one dead token hides nothing; those that left are not counted at all. The age is that at as_of, the newest
-- polled_at.
--
-- provider: or 'all'
-- tokens: those that can be read: read before, and not refused by the newest attempt
-- unreadable_tokens: never read, rejected, revoked, or refused for lack of scope or plan
-- read_within_hold: share of tokens whose newest ok poll is younger than `hold`
-- median_age_seconds, p95_age_seconds: median and 95th percentile of the age, interpolated
WITH token_ages AS (
    SELECT
        token_key, account_id, last_ok_at,
        last_ok_at IS NOT NULL
        AND last_outcome NOT IN ('token_rejected', 'grant_revoked', 'forbidden', 'plan_required') AS is_readable,
        epoch(as_of - last_ok_at) AS age_seconds
    FROM token_status
    CROSS JOIN _as_of
    WHERE left_at IS NULL AND coalesce(has_token, TRUE) AND endpoint IS NOT NULL
),
provider_tokens AS (
    SELECT 'all' AS provider, token_key, is_readable, last_ok_at, age_seconds FROM token_ages
    UNION ALL
    SELECT DISTINCT provider, token_key, is_readable, last_ok_at, age_seconds
    FROM token_ages
    INNER JOIN _state_runs USING (account_id)
    WHERE is_newest AND state <> 'removed'
),
placed AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY provider, is_readable ORDER BY age_seconds, token_key COLLATE "C") - 1 AS place,
        count(*) OVER (PARTITION BY provider, is_readable) - 1 AS last_place
    FROM provider_tokens
),
-- A percentile lies between two places. Both ages count, each the more the nearer its place is.
weighed AS (
    SELECT
        *,
        greatest(0, 1 - abs(place - 0.5 * last_place)) AS median_weight,
        greatest(0, 1 - abs(place - 0.95 * last_place)) AS p95_weight
    FROM placed
)
SELECT
    provider,
    count(CASE WHEN is_readable THEN 1 END) AS tokens,
    count(CASE WHEN NOT is_readable THEN 1 END) AS unreadable_tokens,
    CAST(count(CASE WHEN is_readable AND last_ok_at + $hold > (SELECT as_of FROM _as_of) THEN 1 END) AS DOUBLE)
    / nullif(count(CASE WHEN is_readable THEN 1 END), 0) AS read_within_hold,
    sum(CASE WHEN is_readable THEN age_seconds * median_weight END) AS median_age_seconds,
    sum(CASE WHEN is_readable THEN age_seconds * p95_weight END) AS p95_age_seconds
FROM weighed
GROUP BY provider
