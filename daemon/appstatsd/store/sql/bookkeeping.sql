-- Which migrations of which table have run. Daemons read it too, under whatever role they run.
CREATE TABLE appstatsd_migrations (
    table_name text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, version)
);
GRANT SELECT ON appstatsd_migrations TO PUBLIC;
