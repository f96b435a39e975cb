-- _profile_names: one row per profile.
-- What is known about the profile besides its state: of each field the newest value that is not null. A relink URL may
-- be newer in profiles, because a changed URL is no change.
--
-- account_id, profile_type, profile_id
-- provider_name, provider_service, profile_name, relink_url
WITH seen AS (
    SELECT
        account_id, profile_type, profile_id, observed_at,
        provider_name, provider_service, profile_name, profile_relink_url
    FROM profile_changes
    UNION ALL
    SELECT
        account_id, profile_type, profile_id, observed_at,
        provider_name, provider_service, profile_name, profile_relink_url
    FROM profiles
),
dated AS (
    SELECT
        *,
        max(CASE WHEN provider_name IS NOT NULL THEN observed_at END)
            OVER (PARTITION BY account_id, profile_type, profile_id) AS provider_name_at,
        max(CASE WHEN provider_service IS NOT NULL THEN observed_at END)
            OVER (PARTITION BY account_id, profile_type, profile_id) AS provider_service_at,
        max(CASE WHEN profile_name IS NOT NULL THEN observed_at END)
            OVER (PARTITION BY account_id, profile_type, profile_id) AS profile_name_at,
        max(CASE WHEN profile_relink_url IS NOT NULL THEN observed_at END)
            OVER (PARTITION BY account_id, profile_type, profile_id) AS relink_url_at
    FROM seen
    WHERE observed_at <= (SELECT as_of FROM _as_of)
)
SELECT
    account_id, profile_type, profile_id,
    max(CASE WHEN observed_at = provider_name_at THEN provider_name END COLLATE "C") AS provider_name,
    max(CASE WHEN observed_at = provider_service_at THEN provider_service END COLLATE "C") AS provider_service,
    max(CASE WHEN observed_at = profile_name_at THEN profile_name END COLLATE "C") AS profile_name,
    max(CASE WHEN observed_at = relink_url_at THEN profile_relink_url END COLLATE "C") AS relink_url
FROM dated
GROUP BY account_id, profile_type, profile_id
