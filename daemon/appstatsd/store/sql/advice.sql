-- What would serve a workspace_app_stats of somebody else's better, as statements for its owner to judge.
WITH present AS (
    SELECT attname::text AS name FROM pg_attribute
    WHERE attrelid = 'workspace_app_stats'::regclass AND attnum > 0 AND NOT attisdropped
),
indexes AS (
    SELECT
        am.amname AS kind,
        i.indisunique AND i.indpred IS NULL AS whole_unique,
        array(
            SELECT a.attname::text FROM pg_attribute AS a
            WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) ORDER BY a.attname
        ) AS columns,
        (SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[0]) AS first
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_am AS am ON am.oid = c.relam
    WHERE i.indrelid = 'workspace_app_stats'::regclass
)
SELECT advice
FROM (VALUES
    (
        NOT EXISTS (
            SELECT FROM indexes WHERE whole_unique AND columns = ARRAY['agent_id', 'session_id', 'user_id']
        ),
        'CREATE UNIQUE INDEX ON workspace_app_stats (user_id, agent_id, session_id); -- without it no row can be written'
    ),
    (
        'sessions' NOT IN (SELECT name FROM present),
        'ALTER TABLE workspace_app_stats ADD COLUMN sessions integer NOT NULL DEFAULT 1;'
        || ' -- how many sessions a row stands for'
    ),
    (
        'end_source' NOT IN (SELECT name FROM present),
        'ALTER TABLE workspace_app_stats ADD COLUMN end_source text NOT NULL DEFAULT ''reported'';'
        || ' -- which ends are live or inferred'
    ),
    (
        'updated_at' NOT IN (SELECT name FROM present),
        'ALTER TABLE workspace_app_stats ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();'
        || ' -- a row that comes late then changes nothing but a larger count'
    ),
    (
        NOT EXISTS (SELECT FROM indexes WHERE first = 'workspace_id'),
        'CREATE INDEX CONCURRENTLY ON workspace_app_stats (workspace_id); -- for readers of one workspace'
    ),
    (
        NOT EXISTS (SELECT FROM indexes WHERE kind = 'brin' AND 'session_ended_at' = ANY (columns)),
        'CREATE INDEX CONCURRENTLY ON workspace_app_stats USING brin (session_ended_at);'
        || ' -- for readers of a span of time; cheap to write'
    ),
    (
        EXISTS (SELECT FROM indexes WHERE kind <> 'brin' AND 'session_ended_at' = ANY (columns)),
        'DROP INDEX of every index but BRIN that holds session_ended_at; -- it makes each flush several times dearer'
    ),
    (
        NOT EXISTS (
            SELECT FROM pg_class
            WHERE oid = 'workspace_app_stats'::regclass
            -- A partitioned table itself has no pages.
            AND (relkind = 'p' OR reloptions::text[] && ARRAY['fillfactor=70'])
        ),
        'ALTER TABLE workspace_app_stats SET (fillfactor = 70); -- rows of live sessions are updated in place'
    )
) AS checks (applies, advice)
WHERE applies;
