package appstatsd

import (
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// Session is one use of one app by one user, as the proxy holds it. Its methods never wait, and may be called from any
// goroutine.
type Session struct {
	client *Client
	report report
}

// BeginOptions is what Begin does not say. The zero value says nothing.
type BeginOptions struct {
	// Requests counted so far; 0 counts as 1.
	Requests uint32
	// Unreported: nothing is reported until the session ends, and nothing at all if it never does. For requests that may
	// turn out to be redirects or 404s.
	Unreported bool
	// SessionID goes on with a session that another process began, as over a hot restart; the zero value is a new one.
	SessionID [16]byte
	// Started is when it began; the zero value is now.
	Started time.Time
}

// Begin begins a session of this app, now, with a new session id and one request.
func (c *Client) Begin(app App) *Session {
	return c.BeginWith(app, BeginOptions{})
}

// BeginWith begins a session as the options say.
func (c *Client) BeginWith(app App, options BeginOptions) *Session {
	monotonicNS, wallNS := c.clock.Monotonic(), c.clock.Wall()
	s := &Session{client: c, report: report{
		app:       app,
		sessionID: options.SessionID,
		startedNS: wallNS,
		originNS:  monotonicNS,
		requests:  min(max(options.Requests, 1), maxRequests),
	}}
	if options.SessionID == ([16]byte{}) {
		s.report.sessionID = newSessionID()
	}
	if !options.Started.IsZero() {
		s.report.startedNS = max(1, options.Started.UnixNano())
		s.report.originNS -= max(0, wallNS-s.report.startedNS)
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.start()
	if !options.Unreported && c.core.buffer.begin(&s.report, monotonicNS) {
		c.wake()
	}
	return s
}

// ID is what identifies the session, in the database too.
func (s *Session) ID() [16]byte { return s.report.sessionID }

// Update counts that many more requests. The total stays at 2^31-1 when it gets there. On a session that has ended it does
// nothing.
func (s *Session) Update(requests uint32) {
	c := s.client
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if s.report.endedNS == 0 {
		s.report.count(requests)
		if c.core.buffer.changed(&s.report, c.clock.Monotonic()) {
			c.wake()
		}
	}
}

// End ends the session, now. On one that has ended it does nothing.
func (s *Session) End() {
	c := s.client
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if s.report.endedNS == 0 {
		nowNS := c.clock.Monotonic()
		s.report.end(nowNS)
		if c.core.buffer.ended(&s.report, nowNS) {
			c.wake()
		}
	}
}

// newSessionID makes a random UUID (version 4). The runtime's generator is a ChaCha8 that the kernel has seeded; a session id
// has to be unique, not secret, and a system call for each would cost more than all the rest of Begin.
func newSessionID() [16]byte {
	var id [16]byte
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
