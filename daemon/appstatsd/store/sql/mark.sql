-- {table} is replaced by the name of the table that a migration has just made.
COMMENT ON TABLE {table} IS 'Made by appstatsd migrate, which brings it up to date as long as this comment begins so.';
