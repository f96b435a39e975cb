-- coverage: one row per account, profile_type and maximal span of samples no further apart than hold.
-- A sample is an ok poll that lists profiles of the type, or a change. Late polls are no samples. Where several
-- tokens sample an account at one instant, that is one sample.
--
-- What came before the horizon is known from the rows that are kept: the polls are deleted. Such a row is one more
-- span. If it reaches beyond the horizon, it ends with the first sample there, which the others follow.
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
-- one instant may stand here several times; the last run in order of run_id speaks for it
samples AS (
    SELECT account_id, profile_type, sampled_at, run_id
    FROM sampled
    WHERE account_id IS NOT NULL AND profile_type IS NOT NULL AND sampled_at >= $horizon
),
-- kept rows that begin before the horizon and end after it
reaching AS (
    SELECT account_id, profile_type, max(last_sample_at) AS last_sample_at
    FROM coverage
    WHERE first_sample_at < $horizon AND last_sample_at >= $horizon
    GROUP BY account_id, profile_type
),
neighbors AS (
    SELECT
        samples.account_id,
        samples.profile_type,
        samples.sampled_at,
        samples.run_id,
        CASE WHEN samples.sampled_at = reaching.last_sample_at THEN 1 ELSE 0 END AS is_reached,
        lag(samples.sampled_at) OVER (
            PARTITION BY samples.account_id, samples.profile_type ORDER BY samples.sampled_at, samples.run_id
        ) AS previous_at,
        lead(samples.sampled_at) OVER (
            PARTITION BY samples.account_id, samples.profile_type ORDER BY samples.sampled_at, samples.run_id
        ) AS next_at,
        dense_rank() OVER (
            PARTITION BY samples.account_id, samples.profile_type ORDER BY samples.sampled_at
        ) AS number
    FROM samples
    LEFT JOIN reaching
        ON samples.account_id = reaching.account_id AND samples.profile_type = reaching.profile_type
),
edges AS (
    SELECT
        account_id,
        profile_type,
        sampled_at,
        number,
        CASE WHEN previous_at IS NULL OR sampled_at > previous_at + $hold THEN 1 ELSE 0 END AS is_first,
        CASE WHEN next_at IS NULL OR next_at > sampled_at + $hold THEN run_id END AS last_run_id
    FROM neighbors
    WHERE
        previous_at IS NULL
        OR next_at IS NULL
        OR sampled_at > previous_at + $hold
        OR next_at > sampled_at + $hold
        OR is_reached = 1
),
numbered AS (
    SELECT
        account_id,
        profile_type,
        sampled_at,
        number,
        last_run_id,
        sum(is_first) OVER (
            PARTITION BY account_id, profile_type
            ORDER BY sampled_at, is_first DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS span
    FROM edges
),
spans AS (
    SELECT
        account_id,
        profile_type,
        min(sampled_at) AS first_at,
        max(sampled_at) AS last_at,
        max(number) - min(number) + 1 AS samples,
        max(last_run_id) AS run_id
    FROM numbered
    GROUP BY account_id, profile_type, span
    UNION ALL
    SELECT account_id, profile_type, first_sample_at AS first_at, last_sample_at AS last_at, samples, run_id
    FROM coverage
    WHERE last_sample_at < $horizon
    UNION ALL
    SELECT
        kept.account_id,
        kept.profile_type,
        kept.first_sample_at AS first_at,
        coalesce(min(edges.sampled_at), kept.last_sample_at) AS last_at,
        kept.samples
        - coalesce(max(CASE WHEN edges.sampled_at <= kept.last_sample_at THEN edges.number END), 0) AS samples,
        kept.run_id
    FROM coverage AS kept
    LEFT JOIN edges ON kept.account_id = edges.account_id AND kept.profile_type = edges.profile_type
    WHERE kept.first_sample_at < $horizon AND kept.last_sample_at >= $horizon
    GROUP BY
        kept.account_id, kept.profile_type, kept.first_sample_at, kept.last_sample_at, kept.samples, kept.run_id
),
chained AS (
    SELECT
        account_id,
        profile_type,
        first_at,
        last_at,
        samples,
        run_id,
        lag(last_at) OVER (PARTITION BY account_id, profile_type ORDER BY first_at) AS previous_at,
        lead(first_at) OVER (PARTITION BY account_id, profile_type ORDER BY first_at) AS next_at
    FROM spans
),
joined AS (
    SELECT
        account_id,
        profile_type,
        first_at,
        last_at,
        samples,
        CASE WHEN next_at IS NULL OR next_at > last_at + $hold THEN run_id END AS last_run_id,
        sum(CASE WHEN first_at > previous_at + $hold THEN 1 ELSE 0 END) OVER (
            PARTITION BY account_id, profile_type
            ORDER BY first_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS span
    FROM chained
)
SELECT
    account_id,
    profile_type,
    min(first_at) AS first_sample_at,
    max(last_at) AS last_sample_at,
    CAST(sum(samples) AS BIGINT) AS samples,
    max(last_run_id) AS run_id
FROM joined
GROUP BY account_id, profile_type, span
