// Package store writes rows to PostgreSQL by an upsert from unnested arrays, 1,024 rows at a time.
package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/appstatsd/appstatsd/tests/bench/go_reference/collect"
)

const batchSize = 1024

const upsert = `
INSERT INTO workspace_app_stats AS old (
	user_id, workspace_id, agent_id, access_method, slug_or_port, session_id,
	session_started_at, session_ended_at, requests, sessions, end_source, updated_at
)
SELECT * FROM unnest(
	$1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::uuid[],
	$7::timestamptz[], $8::timestamptz[], $9::integer[], $10::integer[], $11::text[], $12::timestamptz[]
)
ON CONFLICT (user_id, agent_id, session_id) DO UPDATE SET
	session_ended_at = excluded.session_ended_at,
	requests = greatest(old.requests, excluded.requests),
	sessions = greatest(old.sessions, excluded.sessions),
	end_source = excluded.end_source,
	updated_at = excluded.updated_at`

const lastUsed = `
INSERT INTO workspaces AS old (id, last_used_at)
SELECT id, max(used_at) FROM unnest($1::uuid[], $2::timestamptz[]) AS used (id, used_at) GROUP BY id
ON CONFLICT (id) DO UPDATE SET last_used_at = greatest(old.last_used_at, excluded.last_used_at)`

// Store is a pool of connections.
type Store struct {
	pool *pgxpool.Pool
}

// Open makes a store; it connects when it is first needed.
func Open(ctx context.Context, url string) (*Store, error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, err
	}
	return &Store{pool: pool}, nil
}

// Close gives the connections back.
func (s *Store) Close() {
	s.pool.Close()
}

// Write commits rows batch by batch; it returns how many are committed.
func (s *Store) Write(ctx context.Context, rows []collect.Row) (int, error) {
	written := 0
	for written < len(rows) {
		batch := rows[written:min(written+batchSize, len(rows))]
		if err := s.writeBatch(ctx, batch); err != nil {
			return written, err
		}
		written += len(batch)
	}
	return written, nil
}

func (s *Store) writeBatch(ctx context.Context, rows []collect.Row) error {
	var (
		userIDs       = make([]uuid.UUID, 0, len(rows))
		workspaceIDs  = make([]uuid.UUID, 0, len(rows))
		agentIDs      = make([]uuid.UUID, 0, len(rows))
		accessMethods = make([]string, 0, len(rows))
		slugsOrPorts  = make([]string, 0, len(rows))
		sessionIDs    = make([]uuid.UUID, 0, len(rows))
		startedAt     = make([]time.Time, 0, len(rows))
		endedAt       = make([]time.Time, 0, len(rows))
		usedAt        = make([]time.Time, 0, len(rows))
		requests      = make([]int32, 0, len(rows))
		sessions      = make([]int32, 0, len(rows))
		endSources    = make([]string, 0, len(rows))
		updatedAt     = make([]time.Time, 0, len(rows))
	)
	for _, row := range rows {
		userIDs = append(userIDs, row.UserID)
		workspaceIDs = append(workspaceIDs, row.WorkspaceID)
		agentIDs = append(agentIDs, row.AgentID)
		accessMethods = append(accessMethods, row.AccessMethod)
		slugsOrPorts = append(slugsOrPorts, row.SlugOrPort)
		sessionIDs = append(sessionIDs, row.SessionID)
		startedAt = append(startedAt, row.StartedAt)
		endedAt = append(endedAt, row.EndedAt)
		requests = append(requests, row.Requests)
		sessions = append(sessions, row.Sessions)
		endSources = append(endSources, row.EndSource)
		updatedAt = append(updatedAt, row.UpdatedAt)
		if row.EndedAt.After(row.UpdatedAt) {
			usedAt = append(usedAt, row.UpdatedAt)
		} else {
			usedAt = append(usedAt, row.EndedAt)
		}
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, upsert,
			userIDs, workspaceIDs, agentIDs, accessMethods, slugsOrPorts, sessionIDs,
			startedAt, endedAt, requests, sessions, endSources, updatedAt,
		); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, lastUsed, workspaceIDs, usedAt)
		return err
	})
}
