WITH runs AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    state,
    previous_state,
    start_us,
    MIN(start_us) OVER (PARTITION BY account_id, profile_type, profile_id) AS first_seen_us,
    ROW_NUMBER() OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY start_us DESC) AS recency
  FROM cronofy._state_runs
), changes AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    state,
    start_us,
    first_seen_us,
    recency
  FROM runs
  WHERE
    NOT previous_state IS NULL
), fourths AS (
  SELECT
    account_id,
    profile_type,
    MAX(start_us) AS fourth_us
  FROM changes
  WHERE
    recency = 4
  GROUP BY
    account_id,
    profile_type
), buckets AS (
  SELECT
    fourths.account_id,
    fourths.profile_type,
    fourths.fourth_us,
    buckets.bucket_us,
    CASE fourths.profile_type
      WHEN 'calendar'
      THEN buckets.first_calendar_us
      ELSE buckets.first_conferencing_us
    END AS first_us,
    CASE fourths.profile_type
      WHEN 'calendar'
      THEN CASE WHEN buckets.first_calendar_us < buckets.last_calendar_us THEN 2 ELSE 1 END
      ELSE CASE
        WHEN buckets.first_conferencing_us < buckets.last_conferencing_us
        THEN 2
        ELSE 1
      END
    END AS samples
  FROM fourths
  INNER JOIN cronofy._sample_buckets AS buckets
    ON fourths.account_id = buckets.account_id
), suspects AS (
  SELECT
    account_id,
    profile_type
  FROM buckets
  WHERE
    NOT first_us IS NULL
  GROUP BY
    account_id,
    profile_type
  HAVING
    SUM(CASE WHEN bucket_us > fourth_us THEN samples ELSE 0 END) < 20
), counted_buckets AS (
  SELECT
    buckets.account_id,
    buckets.profile_type,
    buckets.fourth_us,
    buckets.first_us,
    SUM(buckets.samples) OVER (
      PARTITION BY buckets.account_id, buckets.profile_type
      ORDER BY buckets.bucket_us DESC
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS later_samples
  FROM buckets
  INNER JOIN suspects
    ON buckets.account_id = suspects.account_id
    AND buckets.profile_type = suspects.profile_type
  WHERE
    NOT buckets.first_us IS NULL
), restless AS (
  SELECT
    account_id,
    profile_type,
    MIN(first_us) AS horizon_us
  FROM counted_buckets
  WHERE
    later_samples IS NULL OR later_samples < 21
  GROUP BY
    account_id,
    profile_type,
    fourth_us
  HAVING
    MIN(first_us) <= fourth_us
), sampled AS (
  SELECT
    restless.account_id,
    restless.profile_type,
    samples.sampled_us,
    DENSE_RANK() OVER (
      PARTITION BY restless.account_id, restless.profile_type
      ORDER BY samples.sampled_us DESC
    ) AS recency
  FROM restless
  INNER JOIN cronofy._samples AS samples
    ON restless.account_id = samples.account_id
    AND restless.horizon_us <= samples.sampled_us
  WHERE
    CASE restless.profile_type
      WHEN 'calendar'
      THEN samples.calendar
      ELSE samples.conferencing
    END = 1
), recent_samples AS (
  SELECT DISTINCT
    account_id,
    profile_type,
    sampled_us,
    recency
  FROM sampled
  WHERE
    recency <= 21
), flapping AS (
  SELECT
    changes.account_id,
    changes.profile_type,
    changes.profile_id,
    changes.first_seen_us,
    MAX(CASE WHEN changes.recency = 1 THEN changes.state END) AS state,
    COUNT(*) AS state_changes,
    MAX(changes.start_us) AS last_changed_us
  FROM changes
  INNER JOIN recent_samples
    ON changes.account_id = recent_samples.account_id
    AND changes.profile_type = recent_samples.profile_type
    AND changes.start_us = recent_samples.sampled_us
  WHERE
    recent_samples.recency <= 20
  GROUP BY
    changes.account_id,
    changes.profile_type,
    changes.profile_id,
    changes.first_seen_us
  HAVING
    COUNT(*) >= 4
), counted AS (
  SELECT
    flapping.account_id,
    flapping.profile_type,
    flapping.profile_id,
    flapping.state,
    flapping.state_changes,
    flapping.last_changed_us,
    COUNT(*) AS samples
  FROM flapping
  INNER JOIN recent_samples
    ON flapping.account_id = recent_samples.account_id
    AND flapping.profile_type = recent_samples.profile_type
    AND flapping.first_seen_us <= recent_samples.sampled_us
  GROUP BY
    flapping.account_id,
    flapping.profile_type,
    flapping.profile_id,
    flapping.state,
    flapping.state_changes,
    flapping.last_changed_us
)
SELECT
  counted.account_id,
  counted.profile_type,
  counted.profile_id,
  names.provider_name,
  names.provider_service,
  counted.state,
  counted.samples,
  counted.state_changes,
  CAST(counted.state_changes AS DOUBLE PRECISION) / 20 AS change_ratio,
  CAST('1970-01-01 00:00:00+00' AS TIMESTAMP WITH TIME ZONE) + counted.last_changed_us * INTERVAL '1 MICROSECOND' AS last_changed_at
FROM counted
INNER JOIN cronofy._profile_names AS names
  ON counted.account_id = names.account_id
  AND counted.profile_type = names.profile_type
  AND counted.profile_id = names.profile_id
