-- _reasons: one row per reason of needs_action.
--
-- reason
-- rank: 1 is most urgent
SELECT 'authorize' AS reason, 1 AS rank
UNION ALL
SELECT 'widen_scope' AS reason, 2 AS rank
UNION ALL
SELECT 'relink' AS reason, 3 AS rank
UNION ALL
SELECT 'initial_sync' AS reason, 4 AS rank
UNION ALL
SELECT 'no_writable_calendar' AS reason, 5 AS rank
UNION ALL
SELECT 'migrate' AS reason, 6 AS rank
