WITH found AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    first_seen_us,
    broken_us,
    ended_us,
    end_reason,
    newest_us,
    duration_us
  FROM `my-project`.cronofy._outages
), ends AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    first_seen_us,
    'start' AS which_end,
    broken_us AS instant_us
  FROM found
  WHERE
    NOT broken_us IS NULL
  UNION ALL
  SELECT
    account_id,
    profile_type,
    profile_id,
    first_seen_us,
    'end' AS which_end,
    ended_us AS instant_us
  FROM found
  WHERE
    NOT ended_us IS NULL
), stretches AS (
  SELECT
    *,
    instant_us - MOD(instant_us, 86400000000) AS bucket_us
  FROM ends
  UNION ALL
  SELECT
    *,
    instant_us - MOD(instant_us, 86400000000) - 86400000000 AS bucket_us
  FROM ends
), near_samples AS (
  SELECT
    stretches.account_id,
    stretches.profile_type,
    stretches.profile_id,
    stretches.first_seen_us,
    stretches.which_end,
    MAX(samples.sampled_us) AS before_us
  FROM stretches
  INNER JOIN `my-project`.cronofy._samples AS samples
    ON stretches.account_id = samples.account_id
    AND stretches.bucket_us = samples.bucket_us
  WHERE
    samples.sampled_us < stretches.instant_us
    AND CASE stretches.profile_type
      WHEN 'calendar'
      THEN samples.calendar
      ELSE samples.conferencing
    END = 1
  GROUP BY
    stretches.account_id,
    stretches.profile_type,
    stretches.profile_id,
    stretches.first_seen_us,
    stretches.which_end
), lonely AS (
  SELECT
    ends.account_id,
    ends.profile_type,
    ends.profile_id,
    ends.first_seen_us,
    ends.which_end,
    ends.instant_us
  FROM ends
  LEFT JOIN near_samples
    ON ends.account_id = near_samples.account_id
    AND ends.profile_type = near_samples.profile_type
    AND ends.profile_id = near_samples.profile_id
    AND ends.first_seen_us = near_samples.first_seen_us
    AND ends.which_end = near_samples.which_end
  WHERE
    near_samples.account_id IS NULL
), lonely_buckets AS (
  SELECT
    account_id,
    bucket_us,
    MAX(CASE WHEN calendar = 1 THEN sampled_us END) AS last_calendar_us,
    MAX(CASE WHEN conferencing = 1 THEN sampled_us END) AS last_conferencing_us
  FROM `my-project`.cronofy._samples
  WHERE
    account_id IN (
      SELECT
        account_id
      FROM lonely
    )
  GROUP BY
    account_id,
    bucket_us
), samples_before AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    first_seen_us,
    which_end,
    before_us
  FROM near_samples
  UNION ALL
  SELECT
    lonely.account_id,
    lonely.profile_type,
    lonely.profile_id,
    lonely.first_seen_us,
    lonely.which_end,
    CASE lonely.profile_type
      WHEN 'calendar'
      THEN buckets.last_calendar_us
      ELSE buckets.last_conferencing_us
    END AS before_us
  FROM lonely
  INNER JOIN lonely_buckets AS buckets
    ON lonely.account_id = buckets.account_id
    AND lonely.instant_us > buckets.bucket_us + 86400000000
), pieces AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    first_seen_us,
    CAST(NULL AS INT64) AS before_start_us,
    CAST(NULL AS INT64) AS before_end_us,
    ended_us,
    end_reason,
    newest_us,
    duration_us
  FROM found
  UNION ALL
  SELECT
    account_id,
    profile_type,
    profile_id,
    first_seen_us,
    CASE which_end WHEN 'start' THEN before_us END AS before_start_us,
    CASE which_end WHEN 'end' THEN before_us END AS before_end_us,
    CAST(NULL AS INT64) AS ended_us,
    CAST(NULL AS STRING) AS end_reason,
    CAST(NULL AS INT64) AS newest_us,
    CAST(NULL AS INT64) AS duration_us
  FROM samples_before
), outages AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    MAX(before_start_us) AS started_after_us,
    first_seen_us,
    COALESCE(MAX(before_end_us), MAX(newest_us)) AS last_seen_us,
    MAX(ended_us) AS ended_us,
    MAX(end_reason) AS end_reason,
    MAX(duration_us) AS duration_us
  FROM pieces
  GROUP BY
    account_id,
    profile_type,
    profile_id,
    first_seen_us
)
SELECT
  outages.account_id,
  outages.profile_type,
  outages.profile_id,
  names.provider_name,
  names.provider_service,
  TIMESTAMP_MICROS(outages.started_after_us) AS started_after,
  TIMESTAMP_MICROS(outages.first_seen_us) AS first_seen_at,
  TIMESTAMP_MICROS(outages.last_seen_us) AS last_seen_at,
  TIMESTAMP_MICROS(outages.ended_us) AS ended_at,
  outages.end_reason,
  CAST(outages.last_seen_us - outages.first_seen_us AS FLOAT64) / 1000000 AS min_seconds,
  CAST(outages.ended_us - outages.started_after_us AS FLOAT64) / 1000000 AS max_seconds,
  CAST(outages.duration_us AS FLOAT64) / 1000000 AS seconds,
  CASE WHEN outages.end_reason = 'open' THEN names.relink_url END AS relink_url
FROM outages
INNER JOIN `my-project`.cronofy._profile_names AS names
  ON outages.account_id = names.account_id
  AND outages.profile_type = names.profile_type
  AND outages.profile_id = names.profile_id
