-- {key} is one of the expressions of appstatsd.store.usage. One step is longer than any span, so that no row is cut but
-- where the span begins and ends.
SELECT
    key,
    coalesce(sum((SELECT sum(extract(epoch FROM upper(t) - lower(t))) FROM unnest(spent) AS t)), 0)::float8 AS seconds,
    count(*) AS users,
    sum(sessions)::bigint AS sessions,
    sum(requests)::bigint AS requests,
    max(last_used_at) AS last_used_at
FROM (
    SELECT
        {key} AS key, user_id,
        range_agg(tstzrange(piece_started_at, piece_ended_at)) AS spent,
        sum(sessions) AS sessions,
        sum(requests) AS requests,
        max(piece_ended_at) AS last_used_at
    FROM appstatsd_pieces(%(since)s, %(until)s, interval '100000 days')
    GROUP BY 1, 2
) AS by_user
GROUP BY key
ORDER BY seconds DESC, key;
