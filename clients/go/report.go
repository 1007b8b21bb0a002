package appstatsd

// maxRequests is where a count stays; the database has no room for more.
const maxRequests = 1<<31 - 1

// report is the newest state of one session: the one value that a session's handle, the buffer and the batches share.
// Whoever reads or changes it holds the client's lock.
//
// Invariant: app, sessionID and startedNS never change, requests only grows, and endedNS is set once. It is in one pool at
// most.
type report struct {
	app       App
	sessionID [16]byte
	// startedNS is in nanoseconds since the Unix epoch.
	startedNS int64
	// originNS is what the monotonic clock said at the start.
	originNS int64
	// endedNS is in nanoseconds since the Unix epoch; 0 while the session is live.
	endedNS  int64
	requests uint32
	// tracked: the daemon may believe the session to be in use, or soon will, so its reports are never dropped.
	tracked bool
	// saidLive: it was put into a batch as live.
	saidLive bool
	// rejected: the daemon rejected a report of it, and it is not reported live again.
	rejected bool
	// alone: it was in a batch that the daemon refused, and shares no batch until one of its own is acknowledged.
	alone bool
	// heldUntilNS is when it is tried again, while it is held back.
	heldUntilNS int64

	pool, tracker place
}

// count counts that many more requests.
func (r *report) count(requests uint32) {
	r.requests = min(r.requests+min(requests, maxRequests), maxRequests)
}

// end sets the end: the start plus what has passed since.
func (r *report) end(monotonicNS int64) {
	r.endedNS = r.startedNS + max(0, monotonicNS-r.originNS)
}
