SELECT count(*) FROM workspace_app_stats WHERE user_id = %(user_id)s;
