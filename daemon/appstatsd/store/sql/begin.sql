-- Nothing outlives the transaction, so that a pooler may give every transaction another session. No column is wide enough
-- for TOAST, which halves what a temporary table costs in the catalogs. The time zone is for foreign tables that hold
-- timestamps without one. An idle transaction is one whose daemon is frozen; it must not keep its locks.
SET LOCAL statement_timeout = {statement_timeout_ms};
SET LOCAL lock_timeout = {lock_timeout_ms};
SET LOCAL idle_in_transaction_session_timeout = {idle_timeout_ms};
SET LOCAL timezone = 'UTC';
CREATE TEMPORARY TABLE appstatsd_incoming (
    user_id uuid,
    workspace_id uuid,
    agent_id uuid,
    access_method varchar(16),
    slug_or_port varchar(256),
    session_id uuid,
    session_started_at timestamptz,
    session_ended_at timestamptz,
    requests integer,
    sessions integer,
    end_source smallint,
    updated_at timestamptz
) ON COMMIT DROP;
