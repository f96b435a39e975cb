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
  FROM main.cronofy._outages
), instants AS (
  SELECT
    account_id,
    profile_type,
    broken_us AS instant_us,
    broken_us - broken_us % 86400000000 AS bucket_us
  FROM found
  WHERE
    NOT broken_us IS NULL
  UNION
  SELECT
    account_id,
    profile_type,
    ended_us AS instant_us,
    ended_us - ended_us % 86400000000 AS bucket_us
  FROM found
  WHERE
    NOT ended_us IS NULL
), stretches AS (
  SELECT
    account_id,
    profile_type,
    instant_us,
    bucket_us
  FROM instants
  UNION ALL
  SELECT
    account_id,
    profile_type,
    instant_us,
    bucket_us - 86400000000 AS bucket_us
  FROM instants
), near_samples AS (
  SELECT
    stretches.account_id,
    stretches.profile_type,
    stretches.instant_us,
    MAX(samples.sampled_us) AS before_us
  FROM stretches
  INNER JOIN main.cronofy._samples AS samples
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
    stretches.instant_us
), lonely AS (
  SELECT
    instants.account_id,
    instants.profile_type,
    instants.instant_us,
    instants.bucket_us
  FROM instants
  LEFT JOIN near_samples
    ON instants.account_id = near_samples.account_id
    AND instants.profile_type = near_samples.profile_type
    AND instants.instant_us = near_samples.instant_us
  WHERE
    near_samples.instant_us IS NULL
), lonely_buckets AS (
  SELECT
    account_id,
    bucket_us,
    MAX(CASE WHEN calendar = 1 THEN sampled_us END) AS last_calendar_us,
    MAX(CASE WHEN conferencing = 1 THEN sampled_us END) AS last_conferencing_us
  FROM main.cronofy._samples
  WHERE
    account_id IN (
      SELECT
        account_id
      FROM lonely
    )
  GROUP BY
    account_id,
    bucket_us
), previous_samples AS (
  SELECT
    account_id,
    profile_type,
    instant_us,
    before_us
  FROM near_samples
  UNION ALL
  SELECT
    lonely.account_id,
    lonely.profile_type,
    lonely.instant_us,
    MAX(
      CASE lonely.profile_type
        WHEN 'calendar'
        THEN buckets.last_calendar_us
        ELSE buckets.last_conferencing_us
      END
    ) AS before_us
  FROM lonely
  INNER JOIN lonely_buckets AS buckets
    ON lonely.account_id = buckets.account_id AND lonely.bucket_us > buckets.bucket_us
  GROUP BY
    lonely.account_id,
    lonely.profile_type,
    lonely.instant_us
), outages AS (
  SELECT
    found.account_id,
    found.profile_type,
    found.profile_id,
    before_start.before_us AS started_after_us,
    found.first_seen_us,
    COALESCE(before_end.before_us, found.newest_us) AS last_seen_us,
    found.ended_us,
    found.end_reason,
    found.duration_us
  FROM found
  LEFT JOIN previous_samples AS before_start
    ON found.account_id = before_start.account_id
    AND found.profile_type = before_start.profile_type
    AND found.broken_us = before_start.instant_us
  LEFT JOIN previous_samples AS before_end
    ON found.account_id = before_end.account_id
    AND found.profile_type = before_end.profile_type
    AND found.ended_us = before_end.instant_us
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
  CAST(outages.last_seen_us - outages.first_seen_us AS DOUBLE) / 1000000 AS min_seconds,
  CAST(outages.ended_us - outages.started_after_us AS DOUBLE) / 1000000 AS max_seconds,
  CAST(outages.duration_us AS DOUBLE) / 1000000 AS seconds,
  CASE WHEN outages.end_reason = 'open' THEN names.relink_url END AS relink_url
FROM outages
INNER JOIN main.cronofy._profile_names AS names
  ON outages.account_id = names.account_id
  AND outages.profile_type = names.profile_type
  AND outages.profile_id = names.profile_id
