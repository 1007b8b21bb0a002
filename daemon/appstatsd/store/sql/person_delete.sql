-- Some of a person's rows, locked in key order as the upsert does, so that nobody deadlocks.
WITH theirs AS (
    SELECT user_id, agent_id, session_id FROM workspace_app_stats
    WHERE user_id = %(user_id)s
    ORDER BY user_id, agent_id, session_id
    LIMIT {rows}
    FOR UPDATE
)
DELETE FROM workspace_app_stats AS stats USING theirs
WHERE stats.user_id = theirs.user_id AND stats.agent_id = theirs.agent_id AND stats.session_id = theirs.session_id;
