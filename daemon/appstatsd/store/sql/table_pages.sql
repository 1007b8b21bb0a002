-- How many pages the table has, the largest partition where it is partitioned.
SELECT greatest(
    pg_relation_size('workspace_app_stats'),
    (SELECT max(pg_relation_size(relid)) FROM pg_partition_tree('workspace_app_stats'))
) / current_setting('block_size')::bigint;
