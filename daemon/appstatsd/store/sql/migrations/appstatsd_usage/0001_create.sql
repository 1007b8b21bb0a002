-- What docs/usage.md describes. Each question about a span of time is a function of it and a view for all time (or the
-- last day). The views hang on the functions, and these name the table in a text that is looked at when they are
-- called: so nobody is kept from dropping or altering the table, and PostgreSQL still plans a view's query as a whole.
-- A table of somebody else's may lack columns: each row is then one session, and none is known to be live.
-- A row counts for the time from its start to before its end. Rows that lie wrong (end before start) are passed over.

CREATE OR REPLACE FUNCTION {schema}.appstatsd_pieces(since timestamptz, until timestamptz, step interval)
RETURNS TABLE (
    bucket timestamptz, user_id uuid, workspace_id uuid, agent_id uuid, access_method text, slug_or_port text,
    piece_started_at timestamptz, piece_ended_at timestamptz, sessions integer, requests integer
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        b.bucket, s.user_id, s.workspace_id, s.agent_id, s.access_method, s.slug_or_port,
        greatest(s.session_started_at, since, b.bucket),
        least(s.session_ended_at, until, b.bucket + make_interval(secs => extract(epoch FROM step)::float8)),
        CASE WHEN s.session_started_at >= greatest(since, b.bucket) THEN s.sessions ELSE 0 END, --if sessions
        CASE WHEN s.session_started_at >= greatest(since, b.bucket) THEN 1 ELSE 0 END, --if !sessions
        CASE WHEN s.session_started_at >= greatest(since, b.bucket) THEN s.requests ELSE 0 END
    FROM {schema}.workspace_app_stats AS s
    CROSS JOIN LATERAL generate_series(
        date_bin(
            make_interval(secs => extract(epoch FROM step)::float8),
            greatest(s.session_started_at, since),
            timestamptz '1970-01-01 00:00:00+00'
        ),
        greatest(s.session_started_at, since, least(s.session_ended_at, until) - interval '1 microsecond'),
        make_interval(secs => extract(epoch FROM step)::float8)
    ) AS b (bucket)
    WHERE
        s.session_ended_at >= since AND s.session_started_at < until
        AND (s.session_ended_at > since OR s.session_started_at >= since)
        AND s.session_ended_at >= s.session_started_at
        -- Always so; it has the planner expect few buckets of a row, where it would take a thousand for granted.
        AND b.bucket BETWEEN '-infinity' AND 'infinity'
$$;
COMMENT ON FUNCTION {schema}.appstatsd_pieces IS
    'Rows of a span of time, cut where buckets of `step` begin; sessions and requests stand in the first piece.';

CREATE OR REPLACE FUNCTION {schema}.appstatsd_usage(since timestamptz, until timestamptz)
RETURNS TABLE (
    day date, user_id uuid, workspace_id uuid, agent_id uuid, access_method text, slug_or_port text,
    seconds numeric, sessions bigint, requests bigint
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        (p.bucket AT TIME ZONE 'UTC')::date, p.user_id, p.workspace_id, p.agent_id, p.access_method, p.slug_or_port,
        sum(extract(epoch FROM p.piece_ended_at - p.piece_started_at)), sum(p.sessions), sum(p.requests)
    FROM {schema}.appstatsd_pieces(since, until, interval '24 hours') AS p
    GROUP BY 1, 2, 3, 4, 5, 6
$$;
COMMENT ON FUNCTION {schema}.appstatsd_usage IS 'Use by day (UTC), user, workspace and app, of a span of time.';
CREATE OR REPLACE VIEW {schema}.appstatsd_usage AS SELECT * FROM {schema}.appstatsd_usage('-infinity', 'infinity');
COMMENT ON VIEW {schema}.appstatsd_usage IS
    'Made by appstatsd migrate, which brings it up to date as long as this comment begins so. '
    'Use by day (UTC), user, workspace and app.';

CREATE OR REPLACE FUNCTION {schema}.appstatsd_app_usage(since timestamptz, until timestamptz)
RETURNS TABLE (
    day date, access_method text, slug_or_port text,
    users bigint, minutes_touched bigint, times_opened bigint, requests bigint
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        (u.bucket AT TIME ZONE 'UTC')::date, u.access_method, u.slug_or_port, count(*),
        sum((SELECT sum(extract(epoch FROM upper(t) - lower(t))) / 60 FROM unnest(u.touched) AS t))::bigint,
        sum(u.times_opened)::bigint, sum(u.requests)::bigint
    FROM (
        SELECT
            p.bucket, p.access_method, p.slug_or_port, p.user_id,
            range_agg(tstzrange(
                date_bin('1 minute', p.piece_started_at, timestamptz '1970-01-01 00:00:00+00'),
                date_bin(
                    '1 minute',
                    greatest(p.piece_started_at, p.piece_ended_at - interval '1 microsecond'),
                    timestamptz '1970-01-01 00:00:00+00'
                ) + interval '1 minute'
            )) AS touched,
            sum(p.sessions) AS times_opened,
            sum(p.requests) AS requests
        FROM {schema}.appstatsd_pieces(since, until, interval '24 hours') AS p
        GROUP BY 1, 2, 3, 4
    ) AS u
    GROUP BY 1, 2, 3
$$;
COMMENT ON FUNCTION {schema}.appstatsd_app_usage IS
    'By day (UTC) and app: users, minutes in which each of them used it, and how often it was opened.';
CREATE OR REPLACE VIEW {schema}.appstatsd_app_usage AS SELECT * FROM {schema}.appstatsd_app_usage('-infinity', 'infinity');

CREATE OR REPLACE FUNCTION {schema}.appstatsd_time_spent(since timestamptz, until timestamptz, step interval)
RETURNS TABLE (bucket timestamptz, user_id uuid, seconds numeric)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        u.bucket, u.user_id,
        coalesce((SELECT sum(extract(epoch FROM upper(t) - lower(t))) FROM unnest(u.spent) AS t), 0)
    FROM (
        SELECT p.bucket, p.user_id, range_agg(tstzrange(p.piece_started_at, p.piece_ended_at)) AS spent
        FROM {schema}.appstatsd_pieces(since, until, step) AS p
        GROUP BY 1, 2
    ) AS u
$$;
COMMENT ON FUNCTION {schema}.appstatsd_time_spent IS
    'By bucket and user, the time with at least one session: what overlaps is counted once.';
CREATE OR REPLACE VIEW {schema}.appstatsd_time_spent AS
SELECT (t.bucket AT TIME ZONE 'UTC')::date AS day, t.user_id, t.seconds
FROM {schema}.appstatsd_time_spent('-infinity', 'infinity', interval '24 hours') AS t;
CREATE OR REPLACE VIEW {schema}.appstatsd_time_spent_30m AS
SELECT * FROM {schema}.appstatsd_time_spent('-infinity', 'infinity', interval '30 minutes');

CREATE OR REPLACE FUNCTION {schema}.appstatsd_concurrency(since timestamptz, until timestamptz, step interval)
RETURNS TABLE (bucket timestamptz, peak_at_least bigint, peak_at_most bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH span AS (
        SELECT
            greatest(s.session_started_at, since) AS began_at, least(s.session_ended_at, until) AS ended_at,
            s.sessions --if sessions
            1 AS sessions --if !sessions
        FROM {schema}.workspace_app_stats AS s
        WHERE
            s.session_ended_at > since AND s.session_started_at < until
            AND s.session_ended_at >= s.session_started_at
    ),
    change AS (
        SELECT began_at AS moment, 1 AS at_least, sessions AS at_most FROM span
        UNION ALL
        SELECT ended_at, -1, -sessions FROM span WHERE ended_at < until
        UNION ALL
        SELECT b, 0, 0 FROM generate_series(since, until - interval '1 microsecond', step) AS b
    ),
    level AS (
        SELECT
            moment,
            sum(sum(at_least)) OVER (ORDER BY moment) AS at_least,
            sum(sum(at_most)) OVER (ORDER BY moment) AS at_most
        FROM change
        GROUP BY moment
    )
    SELECT date_bin(step, moment, since), max(at_least)::bigint, max(at_most)::bigint
    FROM level
    GROUP BY 1
$$;
COMMENT ON FUNCTION {schema}.appstatsd_concurrency IS
    'The most sessions at once in each step from `since` on; a rolled-up row is between one and all of its sessions.';
CREATE OR REPLACE VIEW {schema}.appstatsd_concurrency AS
SELECT * FROM {schema}.appstatsd_concurrency(now() - interval '24 hours', now(), interval '5 minutes');

CREATE OR REPLACE FUNCTION {schema}.appstatsd_live()
RETURNS TABLE (
    workspace_id uuid, user_id uuid, agent_id uuid, access_method text, slug_or_port text, session_id uuid,
    since timestamptz, requests integer, last_seen_at timestamptz, silent_for interval
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        s.workspace_id, s.user_id, s.agent_id, s.access_method, s.slug_or_port, s.session_id,
        s.session_started_at, s.requests,
        s.updated_at, now() - s.updated_at --if updated_at
        s.session_ended_at, now() - s.session_ended_at --if !updated_at
    FROM {schema}.workspace_app_stats AS s
    WHERE s.end_source = 'live' --if end_source
    WHERE false --if !end_source
$$;
CREATE OR REPLACE VIEW {schema}.appstatsd_live AS SELECT * FROM {schema}.appstatsd_live();
COMMENT ON VIEW {schema}.appstatsd_live IS 'Sessions that go on, and when the database heard of each last.';

CREATE OR REPLACE FUNCTION {schema}.appstatsd_orphans(report_interval interval)
RETURNS TABLE (
    workspace_id uuid, user_id uuid, agent_id uuid, access_method text, slug_or_port text, session_id uuid,
    since timestamptz, requests integer, last_seen_at timestamptz, silent_for interval
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT * FROM {schema}.appstatsd_live() AS l WHERE l.silent_for > 3 * report_interval
$$;
CREATE OR REPLACE VIEW {schema}.appstatsd_orphans AS SELECT * FROM {schema}.appstatsd_orphans(interval '30 seconds');
COMMENT ON VIEW {schema}.appstatsd_orphans IS
    'Sessions that count as live though nobody has written them for three report intervals of 30 s.';

CREATE OR REPLACE FUNCTION {schema}.appstatsd_last_use()
RETURNS TABLE (
    workspace_id uuid, last_used_at timestamptz, user_id uuid, agent_id uuid, access_method text, slug_or_port text,
    session_id uuid, live boolean
)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT DISTINCT ON (s.workspace_id)
        s.workspace_id, s.session_ended_at, s.user_id, s.agent_id, s.access_method, s.slug_or_port, s.session_id,
        s.end_source = 'live' --if end_source
        false --if !end_source
    FROM {schema}.workspace_app_stats AS s
    ORDER BY s.workspace_id, s.session_ended_at DESC, s.id DESC
$$;
CREATE OR REPLACE VIEW {schema}.appstatsd_last_use AS SELECT * FROM {schema}.appstatsd_last_use();
COMMENT ON VIEW {schema}.appstatsd_last_use IS 'By workspace, its last use: when, by whom, and of which app.';
