package appstatsd

import "math"

// reportBytes is at most how much a report adds to a batch, its app aside.
const reportBytes = 42

// never is a time that does not come.
const never = int64(math.MaxInt64)

// buffer holds the pending reports of a client, one for each session, and their bounds. A report that waits is the
// session's own state, so it is always the newest. Reports wait in pools:
//
//   - kept: reports of tracked sessions, those that the daemon may believe to be in use, or soon will. Never dropped.
//   - ordinary: ended sessions that the daemon has never heard of. Dropped, and counted, when there are too many.
//   - alone: tracked ones that were in a batch that the daemon refused. Each goes into a batch of its own.
//   - held: tracked ones that were refused alone. Tried again later.
//
// Invariant: a report is in one pool at most; kept, alone and held hold tracked sessions only, of which there are at most
// MaxLiveSessions; ordinary holds at most MaxPendingReports. A session stops being tracked when its end is acknowledged, or
// when it ends without ever having been put into a batch as live.
//
// begin, changed and ended say whether a waiting sender has to look again.
type buffer struct {
	limits       Limits
	tracked      pool
	kept         pool
	ordinary     pool
	alone        pool
	held         pool // in the order of heldUntilNS
	lingerEndsNS int64
	// live is how many tracked sessions have no end.
	live int
	// dropped is how many reports were lost so far.
	dropped uint64
	// closed: nothing is taken any more, and all that waits is due.
	closed bool
}

func newBuffer(limits Limits) *buffer {
	waits := func(r *report) *place { return &r.pool }
	return &buffer{
		limits:   limits,
		tracked:  pool{placeOf: func(r *report) *place { return &r.tracker }},
		kept:     pool{placeOf: waits},
		ordinary: pool{placeOf: waits},
		alone:    pool{placeOf: waits},
		held:     pool{placeOf: waits},
	}
}

// pending is how many reports wait, those that are held back aside.
func (b *buffer) pending() int { return b.kept.length + b.ordinary.length + b.alone.length }

// waiting is how many reports wait, all of them.
func (b *buffer) waiting() int { return b.pending() + b.held.length }

// begin tracks a new session and makes its live report pending, if there is room.
func (b *buffer) begin(r *report, nowNS int64) bool {
	if b.closed {
		return false
	}
	if b.tracked.length >= b.limits.MaxLiveSessions {
		b.dropped++
		return false
	}
	r.tracked = true
	b.tracked.put(r)
	b.live++
	return b.put(&b.kept, r, nowNS)
}

// changed: a live session has another count.
func (b *buffer) changed(r *report, nowNS int64) bool {
	if !r.tracked || r.rejected {
		return false
	}
	return b.keep(r, nowNS)
}

// ended: a session has its end.
func (b *buffer) ended(r *report, nowNS int64) bool {
	if r.tracked {
		b.live--
		if r.saidLive {
			return b.keep(r, nowNS)
		}
		b.forget(r)
		b.kept.remove(r)
	}
	if b.closed || b.ordinary.length >= b.limits.MaxPendingReports {
		b.dropped++
		return false
	}
	return b.put(&b.ordinary, r, nowNS)
}

// reportLiveAgain makes every tracked live session pending, due at once.
func (b *buffer) reportLiveAgain(nowNS int64) {
	for r := range b.tracked.all() {
		if r.endedNS == 0 && !r.rejected {
			b.keep(r, nowNS)
		}
	}
	b.lingerEndsNS = nowNS
}

// close ends every tracked live session. Nothing is taken afterwards; what is held back is tried once more.
func (b *buffer) close(nowNS int64) {
	for r := range b.tracked.all() {
		if r.endedNS == 0 {
			r.end(nowNS)
			b.ended(r, nowNS)
		}
	}
	b.closed = true
	b.release(never, nowNS)
}

// isDue says whether a batch is to be cut.
func (b *buffer) isDue(nowNS int64) bool {
	b.release(nowNS, nowNS)
	pending := b.pending()
	return pending > 0 && (b.closed || pending >= b.limits.BatchMaxReports || nowNS >= b.lingerEndsNS)
}

// dueAtNS is when isDue will change its answer if nothing else happens; never: not at all.
func (b *buffer) dueAtNS() int64 {
	at := never
	if b.held.first != nil {
		at = b.held.first.heldUntilNS
	}
	if b.pending() > 0 {
		at = min(at, b.lingerEndsNS)
	}
	return at
}

// take gives the reports of the next batch, which are then not pending any more. There has to be one.
func (b *buffer) take() []*report {
	if r := b.alone.first; r != nil {
		b.alone.remove(r)
		return []*report{said(r)}
	}
	taken := make([]*report, 0, min(b.pending(), b.limits.BatchMaxReports))
	apps := make(map[App]struct{})
	room := b.limits.BatchMaxBytes
	for _, from := range []*pool{&b.kept, &b.ordinary} {
		for r := range from.all() {
			room -= reportBytes
			if _, there := apps[r.app]; !there {
				apps[r.app] = struct{}{}
				room -= r.app.wireBytes()
			}
			if len(taken) > 0 && (room < 0 || len(taken) == b.limits.BatchMaxReports) {
				return taken
			}
			from.remove(r)
			taken = append(taken, said(r))
		}
	}
	return taken
}

// said notes that a report goes out.
func said(r *report) *report {
	r.saidLive = r.saidLive || r.endedNS == 0
	return r
}

// accepted: the daemon has acknowledged a batch of these reports; ends are those that had their end in it.
func (b *buffer) accepted(reports, ends []*report) {
	for _, r := range ends {
		if r.tracked {
			b.forget(r)
		}
	}
	if len(reports) == 1 {
		reports[0].alone = false
	}
}

// refused: the daemon has refused a batch of these reports. Those of tracked sessions are pending again, each alone. Returns
// how many reports are lost.
func (b *buffer) refused(reports []*report, nowNS int64) int {
	lost := 0
	for _, r := range reports {
		if !r.tracked {
			lost++
			continue
		}
		for _, from := range []*pool{&b.kept, &b.alone, &b.held} {
			from.remove(r)
		}
		switch {
		case len(reports) > 1:
			r.alone = true
			b.put(&b.alone, r, nowNS)
		case !b.closed:
			r.alone = true
			r.heldUntilNS = nowNS + int64(b.limits.RefusedRetry)
			b.held.put(r)
		default:
			b.forget(r)
			lost++
		}
	}
	b.dropped += uint64(lost)
	return lost
}

func (b *buffer) forget(r *report) {
	r.tracked = false
	b.tracked.remove(r)
}

func (b *buffer) keep(r *report, nowNS int64) bool {
	if b.held.has(r) {
		return false
	}
	if r.alone {
		return b.put(&b.alone, r, nowNS)
	}
	return b.put(&b.kept, r, nowNS)
}

func (b *buffer) put(to *pool, r *report, nowNS int64) bool {
	before := b.pending()
	to.put(r)
	if before == 0 {
		b.lingerEndsNS = nowNS + int64(b.limits.Linger)
		return true
	}
	after := b.pending()
	return after > before && after == b.limits.BatchMaxReports
}

// release takes back what was held back until then.
func (b *buffer) release(untilNS, nowNS int64) {
	for r := range b.held.all() {
		if r.heldUntilNS > untilNS {
			return
		}
		b.held.remove(r)
		b.put(&b.alone, r, nowNS)
	}
}
