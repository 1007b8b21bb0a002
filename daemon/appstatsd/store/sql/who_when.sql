SELECT
    now()
    , (SELECT last_used_at FROM workspaces WHERE id = %(workspace)s) --if workspaces
    , NULL::timestamptz --if !workspaces
