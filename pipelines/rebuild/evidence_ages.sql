-- evidence_ages: one row per run, how old the evidence was that it found.
-- The evidence of a poll is the newest ok poll of the same token and endpoint up to then: an ok poll is its own.
-- Runs all of whose tokens had never been read have no row. Late polls tell nothing.
--
-- run_id
-- oldest_evidence_at: the oldest evidence of its polls
-- oldest_evidence_age_seconds: the longest time between one of its polls and the evidence of it
WITH answers AS (
    SELECT
        run_id,
        token_key,
        endpoint,
        polled_at,
        CASE WHEN outcome = 'ok' THEN 0 ELSE 1 END AS failed
    FROM polls
    WHERE run_id IS NOT NULL AND polled_at IS NOT NULL AND coalesce(is_late, FALSE) = FALSE
),
evidence AS (
    SELECT
        run_id,
        polled_at,
        -- of simultaneous polls the ok ones come first
        max(CASE WHEN failed = 0 THEN polled_at END) OVER (
            PARTITION BY token_key, endpoint
            ORDER BY polled_at, failed ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS evidence_at
    FROM answers
)
SELECT
    run_id,
    min(evidence_at) AS oldest_evidence_at,
    max(epoch(polled_at - evidence_at)) AS oldest_evidence_age_seconds
FROM evidence
WHERE evidence_at IS NOT NULL
GROUP BY run_id
