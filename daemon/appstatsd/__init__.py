"""appstatsd: collects workspace app sessions from reverse proxies and writes them to PostgreSQL."""

__version__ = "0.1.0"
