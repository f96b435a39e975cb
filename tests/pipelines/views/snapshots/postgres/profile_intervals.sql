WITH spans AS (
  SELECT
    account_id,
    profile_type,
    first_sample_at,
    last_sample_at + INTERVAL '86400 SECOND' AS hold_ends_at,
    COALESCE(
      LEAD(first_sample_at) OVER (PARTITION BY account_id, profile_type ORDER BY first_sample_at),
      as_of
    ) AS next_sample_at
  FROM cronofy.coverage
  CROSS JOIN cronofy._as_of
), stretches AS (
  SELECT
    account_id,
    profile_type,
    TRUE AS is_known,
    first_sample_at AS start_at,
    LEAST(hold_ends_at, next_sample_at) AS end_at
  FROM spans
  UNION ALL
  SELECT
    account_id,
    profile_type,
    FALSE AS is_known,
    hold_ends_at AS start_at,
    next_sample_at AS end_at
  FROM spans
  WHERE
    hold_ends_at < next_sample_at
), intervals AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    provider,
    provider_name,
    provider_service,
    CASE WHEN is_known THEN state ELSE 'unknown' END AS state,
    GREATEST(first_sample_at, start_at) AS start_at,
    LEAST(COALESCE(ended_at, end_at), end_at) AS end_at
  FROM cronofy._state_runs
  INNER JOIN stretches
    USING (account_id, profile_type)
)
SELECT
  *,
  end_at = (
    SELECT
      as_of
    FROM cronofy._as_of
  ) AS is_current
FROM intervals
WHERE
  start_at < end_at
