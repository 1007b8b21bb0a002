-- A row that somebody writes just now is passed over: whoever writes is never waited for, so nobody deadlocks.
WITH old AS (
    SELECT user_id, agent_id, session_id
{old_rows}
    FOR UPDATE SKIP LOCKED
)
DELETE FROM workspace_app_stats AS stats USING old
WHERE stats.user_id = old.user_id AND stats.agent_id = old.agent_id AND stats.session_id = old.session_id;
