-- SPEC section 2 rule 4; appstatsd.collect.merge says the same in Python. A line that ends in `--if COLUMN` stands only
-- where the table has the column, with `!` only where it has not. A row that is there is stale-proof for {skew_us}
-- microseconds: the one who made it may be ahead by as much as clocks may differ. What would change nothing is not
-- written at all.
INSERT INTO workspace_app_stats AS old (
    user_id, workspace_id, agent_id, access_method, slug_or_port, session_id,
    session_started_at, session_ended_at, requests
    , sessions --if sessions
    , end_source --if end_source
    , updated_at --if updated_at
)
SELECT
    user_id, workspace_id, agent_id, access_method, slug_or_port, session_id,
    session_started_at, session_ended_at, requests
    , sessions --if sessions
    , (ARRAY['live', 'reported', 'inferred'])[end_source + 1] --if end_source
    , updated_at --if updated_at
FROM appstatsd_incoming
ORDER BY user_id, agent_id, session_id
ON CONFLICT (user_id, agent_id, session_id) DO UPDATE SET
    requests = greatest(old.requests, excluded.requests)
    , sessions = greatest(old.sessions, excluded.sessions) --if sessions
    , session_ended_at = excluded.session_ended_at --if !updated_at
    , end_source = excluded.end_source --if end_source !updated_at
    , session_ended_at = CASE WHEN {stale} THEN old.session_ended_at ELSE excluded.session_ended_at END --if updated_at
    , end_source = CASE WHEN {stale} THEN old.end_source ELSE excluded.end_source END --if end_source updated_at
    , updated_at = CASE WHEN {stale} THEN old.updated_at ELSE excluded.updated_at END --if updated_at
WHERE
    excluded.requests > old.requests
    OR excluded.sessions > old.sessions --if sessions
    OR ((
        {stale}) IS NOT TRUE AND ( --if updated_at
        excluded.session_ended_at IS DISTINCT FROM old.session_ended_at
        OR excluded.end_source IS DISTINCT FROM old.end_source --if end_source
        OR excluded.updated_at IS DISTINCT FROM old.updated_at --if updated_at
    ));
