WITH sampled AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    EPOCH_US(observed_at) AS sampled_us,
    MIN(CASE state WHEN 'disconnected' THEN 1 WHEN 'connected' THEN 2 ELSE 3 END) AS state_rank
  FROM profile_changes
  WHERE
    NOT account_id IS NULL
    AND profile_type IN ('calendar', 'conferencing')
    AND NOT profile_id IS NULL
    AND state IN ('connected', 'disconnected', 'removed')
    AND observed_at <= (
      SELECT
        MAX(polled_at)
      FROM polls
    )
  GROUP BY
    account_id,
    profile_type,
    profile_id,
    EPOCH_US(observed_at)
), compared AS (
  SELECT
    *,
    LAG(state_rank) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY sampled_us) AS previous_rank
  FROM sampled
)
SELECT
  account_id,
  profile_type,
  profile_id,
  CASE state_rank WHEN 1 THEN 'disconnected' WHEN 2 THEN 'connected' ELSE 'removed' END AS state,
  CASE previous_rank
    WHEN 1
    THEN 'disconnected'
    WHEN 2
    THEN 'connected'
    WHEN 3
    THEN 'removed'
  END AS previous_state,
  sampled_us AS start_us,
  LEAD(sampled_us) OVER (PARTITION BY account_id, profile_type, profile_id ORDER BY sampled_us) AS end_us
FROM compared
WHERE
  previous_rank IS NULL OR previous_rank <> state_rank
