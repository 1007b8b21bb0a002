package appstatsd

import (
	"fmt"
	"time"

	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
	"google.golang.org/grpc/codes"
)

// isRefusal: something that was sent is at fault.
func isRefusal(status codes.Code) bool {
	return status == codes.InvalidArgument || status == codes.ResourceExhausted
}

// isMistakenIdentity: the client_id is in use twice.
func isMistakenIdentity(status codes.Code) bool {
	return status == codes.AlreadyExists || status == codes.Aborted
}

// isForAPerson: nothing that the client could do would mend it.
func isForAPerson(status codes.Code) bool {
	return status == codes.Unauthenticated || status == codes.PermissionDenied || status == codes.Unimplemented
}

// Stats is what a client holds and has done.
type Stats struct {
	// ClientID is empty before the first stream.
	ClientID              string
	Connected             bool
	LiveSessions          int
	PendingReports        int
	UnacknowledgedReports int
	AcknowledgedReports   uint64
	RejectedReports       uint64
	DroppedReports        uint64
}

// noDelay: the daemon did not say when to come back.
const noDelay = time.Duration(-1)

// core is what the client says next, and when: buffer and protocol of docs/client-protocol.md, without I/O. The shell tells
// it what the transport did and asks what to send; time, random numbers and statuses are passed in. Whoever calls it holds
// the client's lock.
//
// Invariant: the batches in unacked are numbered without a gap, end at nextNumber - 1, and the first sent of them were sent
// on the present stream. No batch is sent before the stream's first answer.
type core struct {
	limits      Limits
	newClientID func() string
	uniform     func() float64 // from 0 to 1
	buffer      *buffer

	clientID     string
	unacked      []*batch
	nextNumber   uint64
	lastSent     uint64 // the highest number sent under this client_id
	singly       bool
	isOpen       bool
	openedAtNS   int64
	answered_    bool
	sent         int
	closingSent  bool
	misused      string // why the client_id cannot be ours alone
	attempts     int
	failures     int
	acknowledged uint64
	rejected     uint64
	droppedTold  uint64
	events       []Event

	// connectAtNS is when the next stream is to be opened, on the monotonic clock.
	connectAtNS int64
	// done: there is nothing more to do, ever.
	done bool
	// confirmed: the daemon has confirmed everything after close.
	confirmed bool
}

func newCore(limits Limits, newClientID func() string, uniform func() float64) *core {
	return &core{
		limits: limits, newClientID: newClientID, uniform: uniform, buffer: newBuffer(limits),
		nextNumber: 1, connectAtNS: -never,
	}
}

// close ends what is left; what waits is due now, and so is the next attempt to connect.
func (c *core) close(nowNS int64) {
	if c.buffer.closed {
		return
	}
	c.buffer.close(nowNS)
	c.connectAtNS = nowNS
	c.attempts = 0
	if c.lastSent == 0 && len(c.unacked) == 0 && c.buffer.waiting() == 0 {
		c.finish(true)
	}
}

// abandon gives up: nothing is taken any more, and what was not acknowledged is lost.
func (c *core) abandon() {
	if !c.done {
		c.buffer.closed = true
		c.finish(false)
	}
}

// opened: a stream is being opened. Returns its first message.
func (c *core) opened(nowNS int64) *appstatsv1.StreamReportsRequest {
	if c.clientID == "" {
		c.clientID = c.newClientID()
	}
	c.isOpen, c.openedAtNS = true, nowNS
	return &appstatsv1.StreamReportsRequest{ClientId: c.clientID, DroppedReports: c.buffer.dropped}
}

// answered: the daemon has answered. False: it speaks of what was never sent, and the stream has to be canceled.
func (c *core) answered(response *appstatsv1.StreamReportsResponse, nowNS int64) bool {
	if response.AckedSequence > c.lastSent {
		c.misused = fmt.Sprintf("%d is acknowledged, and %d was the last one sent", response.AckedSequence, c.lastSent)
		return false
	}
	c.reject(response)
	c.acknowledge(response.AckedSequence)
	if !c.answered_ {
		c.answered_ = true
		c.failures = 0
		c.events = append(c.events, Connected{c.clientID, response.AckedSequence})
		c.buffer.reportLiveAgain(nowNS)
	}
	return true
}

// nextMessage is the message to send now; nil: none yet (see lookAgainAtNS).
func (c *core) nextMessage(nowNS int64) *appstatsv1.StreamReportsRequest {
	if !c.answered_ || c.closingSent || (c.singly && c.sent > 0) {
		return nil
	}
	if c.sent == len(c.unacked) {
		if !c.mayCut() || !c.buffer.isDue(nowNS) {
			return c.closing()
		}
		c.unacked = append(c.unacked, newBatch(c.nextNumber, c.buffer.take()))
		c.nextNumber++
	}
	next := c.unacked[c.sent]
	c.sent++
	c.lastSent = max(c.lastSent, next.number)
	return next.message(c.buffer.dropped)
}

// lookAgainAtNS is when nextMessage may have something though nothing else happened; never: not before something does.
func (c *core) lookAgainAtNS() int64 {
	if !c.answered_ || !c.mayCut() {
		return never
	}
	return c.buffer.dueAtNS()
}

// ended: the stream has ended, or could not be opened, with this status.
func (c *core) ended(status codes.Code, details string, retryDelay time.Duration, nowNS int64) {
	if c.done {
		return
	}
	if c.closingSent && status == codes.OK {
		c.finish(true)
		return
	}
	if c.misused != "" {
		status, details = codes.AlreadyExists, c.misused
	}
	if isRefusal(status) {
		if c.sent == 1 && c.unacked[0].number == 1 {
			c.refuse(status, details, nowNS)
		}
		c.singly = true
	}
	if isRefusal(status) || isMistakenIdentity(status) {
		c.replaceClientID(status, details)
	}
	if c.answered_ && c.isOpen && nowNS-c.openedAtNS >= int64(c.limits.BackoffMax) {
		c.attempts = 0
	}
	c.isOpen, c.answered_, c.sent, c.closingSent, c.misused = false, false, 0, false, ""
	wait := c.wait(status, retryDelay)
	c.connectAtNS = nowNS + int64(wait)
	c.failures++
	c.events = append(c.events, Disconnected{status, details, c.failures, wait})
}

// takeEvents gives what happened since the last call.
func (c *core) takeEvents() []Event {
	taken := c.events
	c.events = nil
	if dropped := c.buffer.dropped - c.droppedTold; dropped > 0 {
		c.droppedTold = c.buffer.dropped
		taken = append(taken, Dropped{dropped, c.buffer.dropped})
	}
	return taken
}

func (c *core) stats() Stats {
	return Stats{
		ClientID:              c.clientID,
		Connected:             c.answered_,
		LiveSessions:          c.buffer.live,
		PendingReports:        c.buffer.waiting(),
		UnacknowledgedReports: c.unacknowledged(),
		AcknowledgedReports:   c.acknowledged,
		RejectedReports:       c.rejected,
		DroppedReports:        c.buffer.dropped,
	}
}

func (c *core) unacknowledged() int {
	count := 0
	for _, b := range c.unacked {
		count += len(b.reports)
	}
	return count
}

func (c *core) mayCut() bool {
	if c.singly {
		return len(c.unacked) < 1
	}
	return len(c.unacked) < c.limits.WindowBatches
}

func (c *core) closing() *appstatsv1.StreamReportsRequest {
	if !c.buffer.closed || len(c.unacked) > 0 || c.buffer.waiting() > 0 {
		return nil
	}
	c.closingSent = true
	return &appstatsv1.StreamReportsRequest{Closing: true, DroppedReports: c.buffer.dropped}
}

func (c *core) acknowledge(acked uint64) {
	for len(c.unacked) > 0 && c.unacked[0].number <= acked {
		b := c.pop()
		c.sent = max(0, c.sent-1)
		c.acknowledged += uint64(len(b.reports))
		c.buffer.accepted(b.reports, b.ends)
		c.singly = false
		c.attempts = 0
	}
}

// pop takes out the oldest batch, and keeps no memory of it.
func (c *core) pop() *batch {
	b := c.unacked[0]
	c.unacked = append(c.unacked[:0:0], c.unacked[1:]...)
	return b
}

func (c *core) reject(response *appstatsv1.StreamReportsResponse) {
	var rejections []Rejection
	for _, rejected := range response.Rejected {
		for _, b := range c.unacked {
			if b.number == rejected.Sequence && int(rejected.Index) < len(b.reports) {
				r := b.reports[rejected.Index]
				r.rejected = true
				rejections = append(rejections, Rejection{r.sessionID, rejected.Reason.String(), rejected.Message})
			}
		}
	}
	c.rejected += uint64(len(rejections))
	if len(rejections) > 0 {
		c.events = append(c.events, Rejected{rejections})
	}
}

func (c *core) refuse(status codes.Code, details string, nowNS int64) {
	b := c.pop()
	lost := c.buffer.refused(b.reports, nowNS)
	c.droppedTold += uint64(lost)
	c.events = append(c.events, BatchRefused{status, details, len(b.reports), lost})
}

func (c *core) replaceClientID(status codes.Code, details string) {
	old := c.clientID
	c.clientID = c.newClientID()
	c.events = append(c.events, ClientIDReplaced{old, c.clientID, status, details})
	c.lastSent = 0
	for i, b := range c.unacked {
		b.number = uint64(i) + 1
	}
	c.nextNumber = uint64(len(c.unacked)) + 1
}

func (c *core) wait(status codes.Code, retryDelay time.Duration) time.Duration {
	if isForAPerson(status) {
		return c.limits.RetrySlowest
	}
	if retryDelay != noDelay {
		return min(c.limits.RetrySlowest, time.Duration(float64(retryDelay)*(1+c.uniform()/4)))
	}
	most := c.limits.BackoffMax
	if grown := c.limits.BackoffBase << min(c.attempts, 20); grown > 0 && grown < most {
		most = grown
	}
	c.attempts++
	return time.Duration(c.uniform() * float64(most))
}

func (c *core) finish(confirmed bool) {
	left := c.buffer.waiting() + c.unacknowledged()
	c.buffer.dropped += uint64(left)
	c.droppedTold += uint64(left)
	c.answered_ = false
	c.done, c.confirmed = true, confirmed
	c.events = append(c.events, Closed{confirmed, left})
}
