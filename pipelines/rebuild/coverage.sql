-- coverage: one row per account, profile_type and maximal span of samples no further apart than hold.
-- A sample is an ok poll that lists profiles of the type, or a change. Late polls are no samples. Where several
-- tokens sample an account at one instant, that is one sample.
--
-- What came before the horizon is known from the rows that are kept: the polls are deleted. Such a row is one
-- piece. If it reaches beyond the horizon, it ends with the first sample there, which the others follow.
WITH sampled AS (
    SELECT account_id, 'calendar' AS profile_type, polled_at AS sampled_at, run_id
    FROM polls
    WHERE outcome = 'ok' AND profiles IS NOT NULL AND coalesce(is_late, FALSE) = FALSE
    UNION ALL
    SELECT account_id, 'conferencing' AS profile_type, polled_at AS sampled_at, run_id
    FROM polls
    WHERE outcome = 'ok' AND conferencing_profiles IS NOT NULL AND coalesce(is_late, FALSE) = FALSE
    UNION ALL
    SELECT account_id, profile_type, observed_at AS sampled_at, run_id
    FROM profile_changes
),
-- one instant may stand here several times
samples AS (
    SELECT account_id, profile_type, sampled_at, run_id
    FROM sampled
    WHERE account_id IS NOT NULL AND profile_type IS NOT NULL AND sampled_at >= $horizon
),
-- what the kept rows say of the time before the horizon
earlier AS (
    SELECT
        kept.account_id,
        kept.profile_type,
        kept.first_sample_at,
        CASE
            WHEN kept.last_sample_at < $horizon THEN kept.last_sample_at
            ELSE coalesce(min(samples.sampled_at), kept.last_sample_at)
        END AS last_sample_at,
        kept.samples
        - count(DISTINCT CASE WHEN samples.sampled_at <= kept.last_sample_at THEN samples.sampled_at END) AS samples,
        kept.run_id
    FROM coverage AS kept
    LEFT JOIN samples
        ON
            kept.account_id = samples.account_id
            AND kept.profile_type = samples.profile_type
            AND kept.last_sample_at >= $horizon
    WHERE kept.first_sample_at < $horizon
    GROUP BY
        kept.account_id, kept.profile_type, kept.first_sample_at, kept.last_sample_at, kept.samples, kept.run_id
),
-- more: samples of the piece besides one
pieces AS (
    SELECT account_id, profile_type, sampled_at AS first_at, sampled_at AS last_at, 0 AS more, run_id
    FROM samples
    UNION ALL
    SELECT account_id, profile_type, first_sample_at AS first_at, last_sample_at AS last_at, samples - 1 AS more, run_id
    FROM earlier
),
neighbors AS (
    SELECT
        account_id,
        profile_type,
        first_at,
        last_at,
        more,
        run_id,
        lag(last_at) OVER (PARTITION BY account_id, profile_type ORDER BY first_at) AS previous_at,
        lead(first_at) OVER (PARTITION BY account_id, profile_type ORDER BY first_at) AS next_at,
        dense_rank() OVER (PARTITION BY account_id, profile_type ORDER BY first_at) AS number
    FROM pieces
),
-- the first and the last piece of each span, and what is more than one sample
edges AS (
    SELECT
        account_id,
        profile_type,
        first_at,
        last_at,
        more,
        run_id,
        number,
        CASE WHEN previous_at IS NULL OR first_at > previous_at + $hold THEN 1 ELSE 0 END AS is_first,
        CASE WHEN next_at IS NULL OR next_at > last_at + $hold THEN 1 ELSE 0 END AS is_last
    FROM neighbors
    WHERE
        previous_at IS NULL
        OR next_at IS NULL
        OR first_at > previous_at + $hold
        OR next_at > last_at + $hold
        OR more <> 0
),
numbered AS (
    SELECT
        account_id,
        profile_type,
        first_at,
        last_at,
        more,
        number,
        CASE WHEN is_last = 1 THEN run_id END AS last_run_id,
        sum(is_first) OVER (
            PARTITION BY account_id, profile_type
            ORDER BY first_at, is_last ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS span
    FROM edges
)
SELECT
    account_id,
    profile_type,
    min(first_at) AS first_sample_at,
    max(last_at) AS last_sample_at,
    CAST(max(number) - min(number) + 1 + sum(more) AS BIGINT) AS samples,
    max(last_run_id) AS run_id
FROM numbered
GROUP BY account_id, profile_type, span
