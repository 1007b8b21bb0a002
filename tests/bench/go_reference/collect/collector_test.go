package collect

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

var (
	window = time.Unix(1_800_000_000, 0).UTC()
	app    = App{UserID: uuid.New(), WorkspaceID: uuid.New(), AgentID: uuid.New(), AccessMethod: "path", SlugOrPort: "ide"}
)

func report(started, ended time.Duration, requests int32) Report {
	r := Report{App: app, SessionID: uuid.New(), StartedAt: window.Add(started), Requests: requests}
	if ended != 0 {
		r.EndedAt = window.Add(ended)
	}
	return r
}

func TestShortSessionsOfOneGroupAreOneRowThatGrows(t *testing.T) {
	c := New(time.Minute)
	c.Collect([]Report{report(time.Second, 20*time.Second, 2), report(2*time.Second, 30*time.Second, 3)})
	rows := c.Flush(window.Add(40 * time.Second))
	if len(rows) != 1 || rows[0].Requests != 5 || rows[0].Sessions != 2 || !rows[0].EndedAt.Equal(window.Add(time.Minute)) {
		t.Fatalf("%+v", rows)
	}
	c.Collect([]Report{report(50*time.Second, 55*time.Second, 1)})
	again := c.Flush(window.Add(70 * time.Second))
	if len(again) != 1 || again[0].Requests != 6 || again[0].SessionID != rows[0].SessionID {
		t.Fatalf("%+v", again)
	}
	c.Flush(window.Add(3 * time.Minute))
	if sessions, groups := c.Held(); sessions != 0 || groups != 0 {
		t.Fatal(sessions, groups)
	}
}

func TestALongSessionIsARowOfItsOwnAtEachFlushUntilItHasEnded(t *testing.T) {
	c := New(time.Minute)
	long := report(time.Second, 0, 1)
	c.Collect([]Report{long})
	if rows := c.Flush(window.Add(30 * time.Second)); len(rows) != 0 {
		t.Fatalf("%+v", rows)
	}
	for _, now := range []time.Time{window.Add(90 * time.Second), window.Add(120 * time.Second)} {
		if rows := c.Flush(now); len(rows) != 1 || rows[0].EndSource != "live" || !rows[0].EndedAt.Equal(now) {
			t.Fatalf("%+v", rows)
		}
	}
	long.EndedAt = window.Add(125 * time.Second)
	c.Collect([]Report{long})
	if rows := c.Flush(window.Add(150 * time.Second)); len(rows) != 1 || !rows[0].EndedAt.Equal(long.EndedAt) {
		t.Fatalf("%+v", rows)
	}
	if rows := c.Flush(window.Add(180 * time.Second)); len(rows) != 0 {
		t.Fatalf("%+v", rows)
	}
}

func TestWhatASessionIsNeverChanges(t *testing.T) {
	c := New(time.Minute)
	first := report(time.Second, 0, 1)
	other := first
	other.SlugOrPort = "another"
	if conflicts := c.Collect([]Report{first, other}); len(conflicts) != 1 || conflicts[0] != 1 {
		t.Fatal(conflicts)
	}
}
