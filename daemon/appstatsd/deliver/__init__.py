"""The way from rows to the database: outbox, retries, quarantine."""
