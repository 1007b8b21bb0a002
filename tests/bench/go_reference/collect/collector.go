// Package collect is the collector of SPEC section 2 in its simple form, the way such collectors are usually written: a
// mutex, a map of sessions, a map of groups, and a scan of all groups at each flush. Nothing is kept on disk, and a settled
// session is forgotten at once. It is what appstatsd is measured against, and no part of it.
package collect

import (
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
)

// App is what a session is a use of, and by whom.
type App struct {
	UserID       uuid.UUID
	WorkspaceID  uuid.UUID
	AgentID      uuid.UUID
	AccessMethod string
	SlugOrPort   string
}

// Report is one message about one session.
type Report struct {
	App
	SessionID uuid.UUID
	StartedAt time.Time
	EndedAt   time.Time // zero while the session is live
	Requests  int32
}

// Row is one line of workspace_app_stats.
type Row struct {
	App
	SessionID uuid.UUID
	StartedAt time.Time
	EndedAt   time.Time
	Requests  int32
	Sessions  int32
	EndSource string
	UpdatedAt time.Time
}

type session struct {
	report Report
	group  groupKey
	ownRow bool
}

type groupKey struct {
	window time.Time
	app    App
}

type group struct {
	sessions []*session
	rolledUp Row
	changed  bool
}

// Collector holds what was reported until it is in a row.
type Collector struct {
	window time.Duration

	mu       sync.Mutex
	sessions map[uuid.UUID]*session
	groups   map[groupKey]*group
}

// New makes an empty collector that rolls up by this window.
func New(window time.Duration) *Collector {
	return &Collector{
		window:   window,
		sessions: make(map[uuid.UUID]*session),
		groups:   make(map[groupKey]*group),
	}
}

// Collect merges reports into what is known; it returns the places of those that contradict what is known.
func (c *Collector) Collect(reports []Report) []int {
	c.mu.Lock()
	defer c.mu.Unlock()

	var conflicts []int
	for place, report := range reports {
		known, ok := c.sessions[report.SessionID]
		if !ok {
			key := groupKey{window: report.StartedAt.Truncate(c.window), app: report.App}
			known = &session{report: report, group: key}
			c.sessions[report.SessionID] = known
			g, ok := c.groups[key]
			if !ok {
				g = &group{}
				c.groups[key] = g
			}
			g.sessions = append(g.sessions, known)
			continue
		}
		if known.report.App != report.App || !known.report.StartedAt.Equal(report.StartedAt) {
			conflicts = append(conflicts, place)
			continue
		}
		known.report.Requests = max(known.report.Requests, report.Requests)
		if report.EndedAt.After(known.report.EndedAt) {
			known.report.EndedAt = report.EndedAt
		}
	}
	return conflicts
}

// Flush rolls up at now and returns the rows that follow.
func (c *Collector) Flush(now time.Time) []Row {
	c.mu.Lock()
	defer c.mu.Unlock()

	var rows []Row
	for key, g := range c.groups {
		kept := g.sessions[:0]
		for _, s := range g.sessions {
			ended := !s.report.EndedAt.IsZero()
			switch {
			case ended && !s.ownRow && s.report.EndedAt.Sub(s.report.StartedAt) <= c.window:
				c.rollUp(g, s, now)
				delete(c.sessions, s.report.SessionID)
			case ended:
				rows = append(rows, ownRow(s, s.report.EndedAt, "reported", now))
				delete(c.sessions, s.report.SessionID)
			case !s.ownRow && now.Sub(s.report.StartedAt) <= c.window:
				kept = append(kept, s)
			default:
				s.ownRow = true
				rows = append(rows, ownRow(s, now, "live", now))
				kept = append(kept, s)
			}
		}
		clear(g.sessions[len(kept):])
		g.sessions = kept
		if g.changed {
			g.changed = false
			rows = append(rows, g.rolledUp)
		}
		if len(kept) == 0 && now.Sub(key.window) > 2*c.window {
			delete(c.groups, key)
		}
	}
	return rows
}

func (c *Collector) rollUp(g *group, s *session, now time.Time) {
	if g.rolledUp.Sessions == 0 {
		g.rolledUp = Row{
			App:       s.report.App,
			SessionID: s.report.SessionID,
			StartedAt: s.group.window,
			EndedAt:   s.group.window.Add(c.window),
			EndSource: "reported",
		}
	}
	g.rolledUp.Requests = int32(min(int64(g.rolledUp.Requests)+int64(s.report.Requests), math.MaxInt32))
	g.rolledUp.Sessions++
	g.rolledUp.UpdatedAt = now
	g.changed = true
}

func ownRow(s *session, endedAt time.Time, endSource string, now time.Time) Row {
	return Row{
		App:       s.report.App,
		SessionID: s.report.SessionID,
		StartedAt: s.report.StartedAt,
		EndedAt:   endedAt,
		Requests:  s.report.Requests,
		Sessions:  1,
		EndSource: endSource,
		UpdatedAt: now,
	}
}

// Held says how many sessions and groups there are.
func (c *Collector) Held() (sessions, groups int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions), len(c.groups)
}
