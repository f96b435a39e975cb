-- _profile_names: one row per profile.
-- What is known about the profile besides its state: of each field the newest value that is not null. Links and the
-- protocol may be newer in profiles, because a change of them is no change of the profile.
--
-- account_id, profile_type, profile_id
-- provider_name, provider_service, profile_name, relink_url, provider_protocol, migration_url
WITH seen AS (
    SELECT
        account_id, profile_type, profile_id, observed_at,
        provider_name, provider_service, profile_name, profile_relink_url,
        NULL AS provider_protocol, NULL AS graph_api_migration_url
    FROM profile_changes
    UNION ALL
    SELECT
        account_id, profile_type, profile_id, observed_at,
        provider_name, provider_service, profile_name, profile_relink_url,
        provider_protocol, graph_api_migration_url
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
            OVER (PARTITION BY account_id, profile_type, profile_id) AS relink_url_at,
        max(CASE WHEN provider_protocol IS NOT NULL THEN observed_at END)
            OVER (PARTITION BY account_id, profile_type, profile_id) AS provider_protocol_at,
        max(CASE WHEN graph_api_migration_url IS NOT NULL THEN observed_at END)
            OVER (PARTITION BY account_id, profile_type, profile_id) AS migration_url_at
    FROM seen
    WHERE observed_at <= (SELECT as_of FROM _as_of)
)
SELECT
    account_id, profile_type, profile_id,
    max(CASE WHEN observed_at = provider_name_at THEN provider_name END COLLATE "C") AS provider_name,
    max(CASE WHEN observed_at = provider_service_at THEN provider_service END COLLATE "C") AS provider_service,
    max(CASE WHEN observed_at = profile_name_at THEN profile_name END COLLATE "C") AS profile_name,
    max(CASE WHEN observed_at = relink_url_at THEN profile_relink_url END COLLATE "C") AS relink_url,
    max(CASE WHEN observed_at = provider_protocol_at THEN provider_protocol END COLLATE "C") AS provider_protocol,
    max(CASE WHEN observed_at = migration_url_at THEN graph_api_migration_url END COLLATE "C") AS migration_url
FROM dated
GROUP BY account_id, profile_type, profile_id
