WITH states AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    observed_at,
    CASE MIN(CASE state WHEN 'disconnected' THEN 1 WHEN 'connected' THEN 2 ELSE 3 END)
      WHEN 1
      THEN 'disconnected'
      WHEN 2
      THEN 'connected'
      ELSE 'removed'
    END AS state,
    MAX(previous_poll_at) AS previous_sample_at
  FROM cronofy.profile_changes
  WHERE
    NOT account_id IS NULL
    AND NOT state IS NULL
    AND observed_at <= (
      SELECT
        as_of
      FROM cronofy._as_of
    )
  GROUP BY
    account_id,
    profile_type,
    profile_id,
    observed_at
), compared AS (
  SELECT
    *,
    LAG(state) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY observed_at) AS previous_state
  FROM states
), newest_samples AS (
  SELECT
    account_id,
    profile_type,
    MAX(last_sample_at) AS newest_sample_at
  FROM cronofy.coverage
  GROUP BY
    account_id,
    profile_type
)
SELECT
  account_id,
  profile_type,
  profile_id,
  COALESCE(provider_service, provider_name, 'unknown') AS provider,
  provider_name,
  provider_service,
  profile_name,
  relink_url,
  state,
  previous_state,
  LEAD(state) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY observed_at) AS next_state,
  CASE WHEN NOT previous_state IS NULL THEN previous_sample_at END AS started_after,
  observed_at AS first_sample_at,
  COALESCE(
    LEAD(previous_sample_at) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY observed_at),
    newest_sample_at
  ) AS last_sample_at,
  LEAD(observed_at) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY observed_at) AS ended_at
FROM compared
LEFT JOIN newest_samples
  USING (account_id, profile_type)
LEFT JOIN cronofy._profile_names
  USING (account_id, profile_type, profile_id)
WHERE
  previous_state IS NULL OR previous_state <> state
