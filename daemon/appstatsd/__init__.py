"""appstatsd: collects workspace app sessions from reverse proxies and writes them to PostgreSQL."""
