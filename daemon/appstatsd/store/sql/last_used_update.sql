-- Only rows that exist, and only those that move forward, are locked, in id order.
WITH used AS (
    SELECT workspace_id AS id, max(least(session_ended_at, updated_at)) AS last_used_at
    FROM appstatsd_incoming
    GROUP BY workspace_id
),
locked AS (
    SELECT w.id
    FROM workspaces AS w JOIN used ON used.id = w.id
    WHERE (w.last_used_at >= used.last_used_at) IS NOT TRUE
    ORDER BY w.id
    FOR NO KEY UPDATE OF w
)
UPDATE workspaces AS w
SET last_used_at = used.last_used_at
FROM used JOIN locked ON locked.id = used.id
WHERE w.id = used.id AND (w.last_used_at >= used.last_used_at) IS NOT TRUE;
