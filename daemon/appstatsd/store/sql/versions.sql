SELECT table_name, max(version) FROM appstatsd_migrations GROUP BY table_name;
