-- What stands in the database. The mark is a table's comment: unlike a note elsewhere it goes when somebody drops the
-- table and makes one of their own under the name, and comes along in a dump.
SELECT
    name,
    array(
        SELECT attname::text FROM pg_attribute
        WHERE attrelid = to_regclass(name) AND attnum > 0 AND NOT attisdropped
    ) AS columns,
    coalesce(obj_description(to_regclass(name), 'pg_class') LIKE 'Made by appstatsd migrate%', false) AS marked
FROM unnest(
    ARRAY['workspace_app_stats', 'workspaces', 'appstatsd_usage', 'appstatsd_migrations', 'appstatsd_retention']
) AS name;
