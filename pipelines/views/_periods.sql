-- _periods: one row per period (7d, 30d, all), counted back from as_of.
--
-- period
-- from_at: its start, counted in hours, because a day of the session's time zone may have 23 or 25 of them; of all it
--     is a hundred years ago
SELECT '7d' AS period, as_of - INTERVAL '168 hour' AS from_at FROM _as_of
UNION ALL
SELECT '30d' AS period, as_of - INTERVAL '720 hour' AS from_at FROM _as_of
UNION ALL
SELECT 'all' AS period, as_of - INTERVAL '876000 hour' AS from_at FROM _as_of
