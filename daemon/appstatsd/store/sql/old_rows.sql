-- Old rows on the pages from {first} up to {end}. By pages, for that costs the same whatever was removed before, needs no
-- index that would make writing dearer, and goes over the table once.
    FROM workspace_app_stats
    WHERE ctid >= '({first},0)'::tid AND ctid < '({end},0)'::tid
    AND session_ended_at < now() - interval '{age_us} microseconds'
    AND end_source <> 'live' --if end_source
