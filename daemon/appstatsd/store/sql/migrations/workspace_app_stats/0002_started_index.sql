-- Together with the one on session_ended_at it finds the rows of a span of time long ago. A start never changes, so that
-- updates stay HOT.
CREATE INDEX workspace_app_stats_session_started_at_idx ON workspace_app_stats USING brin (session_started_at);
