-- One row, so that a fleet of daemons goes over the table for old rows as often as one daemon would.
CREATE TABLE IF NOT EXISTS appstatsd_retention (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    pass_began_at timestamptz NOT NULL
);
INSERT INTO appstatsd_retention (pass_began_at) VALUES ('-infinity') ON CONFLICT DO NOTHING;
