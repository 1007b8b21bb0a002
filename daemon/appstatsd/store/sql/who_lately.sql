-- What is live stands in another list, and is left out here by its session.
SELECT
    workspace_id::text, user_id::text, agent_id::text, access_method, slug_or_port, session_id::text,
    session_started_at AS started_at, session_ended_at AS ended_at, session_ended_at AS last_seen_at, requests
FROM workspace_app_stats
WHERE
    session_id::text <> ALL (%(live)s)
    AND workspace_id = %(workspace)s --if workspace
    AND user_id = %(user)s --if user
ORDER BY session_ended_at DESC, session_id
LIMIT %(limit)s;
