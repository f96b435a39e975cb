WITH seen AS (
  SELECT
    account_id,
    profile_type,
    profile_id,
    observed_at,
    provider_name,
    provider_service,
    profile_name,
    profile_relink_url
  FROM cronofy.profile_changes
  UNION ALL
  SELECT
    account_id,
    profile_type,
    profile_id,
    observed_at,
    provider_name,
    provider_service,
    profile_name,
    profile_relink_url
  FROM cronofy.profiles
), dated AS (
  SELECT
    *,
    MAX(CASE WHEN NOT provider_name IS NULL THEN observed_at END) OVER profile AS provider_name_at,
    MAX(CASE WHEN NOT provider_service IS NULL THEN observed_at END) OVER profile AS provider_service_at,
    MAX(CASE WHEN NOT profile_name IS NULL THEN observed_at END) OVER profile AS profile_name_at,
    MAX(CASE WHEN NOT profile_relink_url IS NULL THEN observed_at END) OVER profile AS relink_url_at
  FROM seen
  WHERE
    observed_at <= (
      SELECT
        as_of
      FROM cronofy._as_of
    )
  WINDOW profile AS (PARTITION BY account_id, profile_type, profile_id)
)
SELECT
  account_id,
  profile_type,
  profile_id,
  MAX(CASE WHEN observed_at = provider_name_at THEN provider_name END COLLATE "C") AS provider_name,
  MAX(
    CASE WHEN observed_at = provider_service_at THEN provider_service END COLLATE "C"
  ) AS provider_service,
  MAX(CASE WHEN observed_at = profile_name_at THEN profile_name END COLLATE "C") AS profile_name,
  MAX(CASE WHEN observed_at = relink_url_at THEN profile_relink_url END COLLATE "C") AS relink_url
FROM dated
GROUP BY
  account_id,
  profile_type,
  profile_id
