-- A queue of notices that nobody reads may be full, or somebody's commit may hold it.
SET LOCAL statement_timeout = {timeout_ms};
SET LOCAL lock_timeout = {timeout_ms};
