CREATE TABLE workspaces (
    id uuid PRIMARY KEY,
    last_used_at timestamptz NOT NULL
);
