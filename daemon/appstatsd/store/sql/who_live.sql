SELECT
    workspace_id::text, user_id::text, agent_id::text, access_method, slug_or_port, session_id::text,
    since AS started_at, NULL::timestamptz AS ended_at, last_seen_at, requests
FROM appstatsd_live
WHERE
    true
    AND workspace_id = %(workspace)s --if workspace
    AND user_id = %(user)s --if user
ORDER BY since, session_id;
