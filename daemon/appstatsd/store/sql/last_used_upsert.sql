-- One pass in id order over both what exists and what does not: locking what exists first and inserting afterwards would
-- take locks in two runs, which can deadlock with a daemon that has just inserted between them.
WITH used AS (
    SELECT workspace_id AS id, max(least(session_ended_at, updated_at)) AS last_used_at
    FROM appstatsd_incoming
    GROUP BY workspace_id
)
INSERT INTO workspaces AS w (id, last_used_at)
SELECT used.id, used.last_used_at
FROM used LEFT JOIN workspaces AS present ON present.id = used.id
WHERE (present.last_used_at >= used.last_used_at) IS NOT TRUE
ORDER BY used.id
ON CONFLICT (id) DO UPDATE SET last_used_at = excluded.last_used_at
WHERE (w.last_used_at >= excluded.last_used_at) IS NOT TRUE;
