-- _profile_times: one row per profile and period in which it was not removed all the time.
--
-- account_id, profile_type, profile_id, provider, period
-- connected_seconds, disconnected_seconds, unknown_seconds: decimals, which add up to the same in any order
WITH pieces AS (
    SELECT
        account_id, profile_type, profile_id, provider, period, state,
        CAST(epoch(end_at - greatest(start_at, from_at)) AS DECIMAL(18, 6)) AS seconds
    FROM profile_intervals
    INNER JOIN _periods ON end_at > from_at
    WHERE state <> 'removed'
)
SELECT
    account_id, profile_type, profile_id, provider, period,
    sum(CASE state WHEN 'connected' THEN seconds ELSE 0 END) AS connected_seconds,
    sum(CASE state WHEN 'disconnected' THEN seconds ELSE 0 END) AS disconnected_seconds,
    sum(CASE state WHEN 'unknown' THEN seconds ELSE 0 END) AS unknown_seconds
FROM pieces
GROUP BY account_id, profile_type, profile_id, provider, period
