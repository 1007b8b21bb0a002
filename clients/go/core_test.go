package appstatsd

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

const second = int64(time.Second)

var code = App{[16]byte{15: 1}, [16]byte{15: 2}, [16]byte{15: 3}, Path, "code"}

// wire is a core, a model daemon and one stream between them; nothing moves but by the test.
type wire struct {
	*testing.T
	now      int64
	made     int
	daemon   *modelDaemon
	core     *core
	clientID string
	seen     []Event
}

func newWire(t *testing.T, change func(*Limits)) *wire {
	limits := DefaultLimits()
	if change != nil {
		change(&limits)
	}
	w := &wire{T: t, now: 5 * second, daemon: newModelDaemon()}
	w.core = newCore(limits, func() string { w.made++; return fmt.Sprintf("client-%d", w.made) }, func() float64 { return 1 })
	return w
}

func (w *wire) report(number int) *report {
	r := &report{app: code, startedNS: 1_700_000_000*second + w.now, originNS: w.now, requests: 1}
	binary.BigEndian.PutUint64(r.sessionID[8:], uint64(number))
	return r
}

func (w *wire) begin(number int) *report {
	r := w.report(number)
	w.core.buffer.begin(r, w.now)
	return r
}

func (w *wire) beginMany(first, count int) (begun []*report) {
	for i := range count {
		begun = append(begun, w.begin(first+i))
	}
	return begun
}

func (w *wire) end(reports ...*report) {
	for _, r := range reports {
		r.end(w.now)
		w.core.buffer.ended(r, w.now)
	}
}

// endUnheard makes sessions that are reported only when they end.
func (w *wire) endUnheard(first, count int) {
	for i := range count {
		w.end(w.report(first + i))
	}
}

// open opens a stream and answers its first message.
func (w *wire) open() {
	first := w.core.opened(w.now)
	w.is(w.core.nextMessage(w.now) == nil, "something was sent before the answer")
	w.clientID = first.ClientId
	w.ack(w.daemon.first(first))
}

func (w *wire) ack(sequence uint64, rejected ...*appstatsv1.RejectedReport) bool {
	return w.core.answered(&appstatsv1.StreamReportsResponse{AckedSequence: sequence, Rejected: rejected}, w.now)
}

// sent is the next message, which the daemon does not get; 0 reports: there was none.
func (w *wire) sent() (message *appstatsv1.StreamReportsRequest, reports int) {
	if message = w.core.nextMessage(w.now); message == nil {
		return nil, 0
	}
	return message, len(message.GetColumns().GetApp())
}

// settle sends, applies and acknowledges until nothing is left to send.
func (w *wire) settle() {
	for {
		message, _ := w.sent()
		switch {
		case message == nil:
			return
		case message.Closing:
			w.core.ended(codes.OK, "", noDelay, w.now)
			return
		}
		w.ack(w.daemon.batch(w.clientID, message))
	}
}

// lose ends the stream; returns how far the next attempt is away.
func (w *wire) lose(status codes.Code) time.Duration {
	w.core.ended(status, "because", noDelay, w.now)
	return time.Duration(w.core.connectAtNS - w.now)
}

func (w *wire) linger() { w.now += second }

func (w *wire) is(what bool, format string, values ...any) {
	w.Helper()
	if !what {
		w.Fatalf(format, values...)
	}
}

func told[E Event](w *wire) (found []E) {
	w.seen = append(w.seen, w.core.takeEvents()...)
	for _, event := range w.seen {
		if e, fits := event.(E); fits {
			found = append(found, e)
		}
	}
	return found
}

func TestASessionThatBeginsAndEndsWithinTheLingerIsOneReport(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	r := w.begin(1)
	w.is(w.core.lookAgainAtNS() == w.now+second, "the shell is told another time")
	w.end(r)
	w.linger()
	w.settle()
	w.is(w.daemon.sessions[r.sessionID].timesHeard == 1 && w.daemon.sessions[r.sessionID].endedNS != 0, "not one report")
	w.is(w.core.buffer.tracked.length == 0 && w.core.buffer.waiting() == 0, "something is left")
}

func TestAFullBatchDoesNotWaitAndWhatIsLeftOverDoes(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	w.beginMany(1, 1001)
	_, reports := w.sent()
	w.is(reports == 1000, "%d reports", reports)
	_, reports = w.sent()
	w.is(reports == 0, "the rest did not wait")
	w.linger()
	_, reports = w.sent()
	w.is(reports == 1, "%d reports after the linger", reports)
}

func TestTheLongestSlugsInTheLargestBatchStayUnderTheLimitOfBytes(t *testing.T) {
	w := newWire(t, func(l *Limits) { l.BatchMaxReports, l.BatchMaxBytes, l.MaxLiveSessions = 10_000, 4<<20, 20_000 })
	w.open()
	for i := range 10_000 {
		r := w.report(i + 1)
		r.app.slugOrPort = fmt.Sprintf("%05d", i) + strings.Repeat("𝒳", 251)
		r.requests = maxRequests
		w.core.buffer.begin(r, w.now)
	}
	message, reports := w.sent()
	size := proto.Size(message)
	w.is(size <= 4<<20 && size > 98*(4<<20)/100, "%d bytes", size)
	w.is(len(message.Columns.Apps) == reports, "an app too many")
	w.settle()
}

func TestAtMostEightBatchesAreOnTheirWayWhileReportsGoOnMerging(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	reports := w.beginMany(1, 10_000)
	for range 8 {
		_, count := w.sent()
		w.is(count == 1000, "%d reports", count)
	}
	_, count := w.sent()
	w.is(count == 0 && w.core.lookAgainAtNS() == never, "a ninth batch")
	for _, r := range reports {
		r.count(1)
		w.core.buffer.changed(r, w.now)
	}
	w.is(w.core.buffer.pending() == 10_000, "%d pending", w.core.buffer.pending())
}

func TestWhatWasNotAcknowledgedIsSentAgainUnderItsNumberWithItsContentThenLiveSessions(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	r := w.begin(1)
	w.linger()
	first, _ := w.sent()
	r.count(5)
	w.core.buffer.changed(r, w.now)
	w.lose(codes.Unavailable)
	w.open()
	again, _ := w.sent()
	w.is(proto.Equal(first, again), "another content")
	w.daemon.batch(w.clientID, again)
	newest, _ := w.sent()
	w.is(newest.Sequence == 2 && newest.Columns.Requests[0] == 6, "not the newest: %v", newest)
	w.lose(codes.Unavailable)
	w.daemon.batch(w.clientID, newest)
	w.open() // its answer acknowledges both
	w.is(w.core.unacknowledged() == 0, "not acknowledged")
	live, _ := w.sent()
	w.is(live.Sequence == 3 && live.Columns.SessionEndedAtUnixNano[0] == 0, "not live again: %v", live)
}

func TestARejectedSessionIsToldAndNotReportedLiveAgainButItsEndIs(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	r := w.begin(1)
	w.linger()
	w.sent()
	w.ack(1, &appstatsv1.RejectedReport{Sequence: 1, Reason: appstatsv1.RejectionReason_REJECTION_REASON_CONFLICT, Message: "no"},
		&appstatsv1.RejectedReport{Sequence: 1, Index: 7}, &appstatsv1.RejectedReport{Sequence: 9, Reason: 99})
	w.is(len(told[Rejected](w)) == 1 && told[Rejected](w)[0].Rejections[0].Reason == "REJECTION_REASON_CONFLICT", "not told")
	w.core.buffer.changed(r, w.now)
	w.lose(codes.Unavailable)
	w.open()
	w.is(w.core.buffer.waiting() == 0, "live again")
	w.end(r)
	w.is(w.core.buffer.waiting() == 1, "its end is lost")
}

func TestOnlyABatchRefusedAsNumber1IsDroppedAndTrackedSessionsSurviveEachAlone(t *testing.T) {
	for _, status := range []codes.Code{codes.InvalidArgument, codes.ResourceExhausted} {
		w := newWire(t, func(l *Limits) { l.BatchMaxReports = 2 })
		w.open()
		w.endUnheard(1, 4)
		live := w.beginMany(10, 2)
		for range 3 {
			w.sent()
		}
		w.lose(status) // three were on their way: none is dropped
		w.is(w.core.buffer.dropped == 0 && w.core.unacknowledged() == 6, "dropped too much")
		w.open()
		w.is(w.clientID == "client-2", "the client_id is kept")
		_, count := w.sent()
		_, more := w.sent()
		w.is(count == 2 && more == 0, "not singly")
		w.lose(status) // the live ones were first: each is sent alone
		w.open()
		w.settle()
		w.is(w.core.buffer.dropped == 0, "%d dropped", w.core.buffer.dropped)
		for _, r := range live {
			w.is(w.daemon.sessions[r.sessionID] != nil, "a live session is lost")
		}
		w.endUnheard(20, 2)
		w.sent()
		w.lose(status)
		w.open()
		w.sent()
		w.lose(status)
		w.is(w.core.buffer.dropped == 2 && len(told[BatchRefused](w)) == 2, "%d dropped, told %v", w.core.buffer.dropped, told[BatchRefused](w))
	}
}

func TestAReportRefusedAloneIsHeldBackTriedAgainAndGivenUpAtClose(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	r := w.begin(1)
	w.linger()
	w.sent()
	w.lose(codes.InvalidArgument)
	w.is(w.core.buffer.held.length == 1, "not held back")
	w.open()
	message, _ := w.sent()
	w.is(message == nil && w.core.lookAgainAtNS() > w.now, "sent too early")
	r.count(3)
	w.core.buffer.changed(r, w.now)
	w.now += 60 * second
	w.is(w.core.buffer.isDue(w.now) || w.core.lookAgainAtNS() == w.now+second, "not due")
	w.linger()
	message, _ = w.sent()
	w.is(message != nil && message.Columns.Requests[0] == 4, "not the newest")
	w.lose(codes.InvalidArgument)
	w.open()
	w.core.close(w.now) // once more, with its end
	message, _ = w.sent()
	w.is(message != nil && message.Columns.SessionEndedAtUnixNano[0] != 0, "not tried once more: %v", message)
	w.lose(codes.InvalidArgument)
	w.is(w.core.buffer.dropped == 1 && w.core.buffer.tracked.length == 0, "not given up")
}

func TestAClientIDInUseTwiceIsReplacedAndBatchesAreSentAgainFrom1(t *testing.T) {
	for _, status := range []codes.Code{codes.AlreadyExists, codes.Aborted} {
		w := newWire(t, nil)
		w.open()
		w.begin(1)
		w.linger()
		w.settle()
		r := w.begin(2)
		w.linger()
		w.sent()
		w.lose(status)
		replaced := told[ClientIDReplaced](w)
		w.is(len(replaced) == 1 && replaced[0].Old == "client-1" && replaced[0].New == "client-2", "%v", replaced)
		w.open()
		message, _ := w.sent()
		w.is(message.Sequence == 1, "number %d", message.Sequence)
		w.ack(w.daemon.batch(w.clientID, message))
		w.is(w.daemon.sessions[r.sessionID] != nil, "lost")
	}
}

func TestAnAcknowledgementOfWhatWasNeverSentMeansThatTheClientIDIsInUseTwice(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	w.is(!w.ack(1), "it was taken")
	w.lose(codes.Canceled)
	w.is(told[ClientIDReplaced](w)[0].Status == codes.AlreadyExists, "not replaced")
}

func TestAttemptsBackOffUpToEightSecondsAndTheDaemonsDelayComesFirst(t *testing.T) {
	w := newWire(t, nil)
	for _, most := range []time.Duration{250, 500, 1000, 2000, 4000, 8000, 8000} {
		wait := w.lose(codes.Unavailable)
		w.is(wait == most*time.Millisecond, "%v, not %v ms", wait, most)
	}
	for range 100 {
		w.is(w.lose(codes.Unavailable) == 8*time.Second, "it overflows")
	}
	w.core.ended(codes.Unavailable, "", time.Second, w.now)
	w.is(w.core.connectAtNS-w.now == second*5/4, "the delay is not the daemon's")
	w.core.ended(codes.Unavailable, "", time.Hour, w.now)
	w.is(w.core.connectAtNS-w.now == 10*second, "slower than the slowest")
	for _, status := range []codes.Code{codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented} {
		w.is(w.lose(status) == 10*time.Second, "not the slowest pace")
	}
	w.open()
	w.now += 8 * second
	w.is(w.lose(codes.Unavailable) == 250*time.Millisecond, "a stream that lasted does not count")
	w.lose(codes.Unavailable)
	w.open()
	w.begin(1)
	w.linger()
	w.settle()
	w.is(w.lose(codes.Unavailable) == 250*time.Millisecond, "an acknowledgement does not count")
}

func TestAFullBufferDropsTheNewReportAndKeepsTheEndsOfLiveSessions(t *testing.T) {
	w := newWire(t, func(l *Limits) { l.MaxLiveSessions, l.MaxPendingReports = 2, 3 })
	w.open()
	live := w.beginMany(1, 3)
	w.is(w.core.buffer.dropped == 1 && w.core.buffer.live == 2, "%d dropped", w.core.buffer.dropped)
	w.linger()
	w.settle()
	w.endUnheard(10, 5)
	w.is(w.core.buffer.dropped == 3, "%d dropped", w.core.buffer.dropped)
	w.end(live[:2]...)
	w.is(w.core.buffer.dropped == 3, "an end was dropped")
	w.linger()
	w.settle()
	w.is(w.daemon.dropped == 3 && w.daemon.sessions[live[0].sessionID].endedNS != 0, "the daemon was not told")
	w.is(told[Dropped](w)[0] == Dropped{3, 3}, "%v", told[Dropped](w))
}

func TestClosingEndsWhatIsLeftAndIsSaidAgainWithoutAnOK(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	r := w.begin(1)
	w.linger()
	w.settle()
	w.core.close(w.now)
	message, _ := w.sent()
	w.ack(w.daemon.batch(w.clientID, message))
	w.is(w.daemon.sessions[r.sessionID].endedNS != 0, "not ended")
	message, _ = w.sent()
	w.is(message.Closing && message.Sequence == 0 && message.Columns == nil, "not closing: %v", message)
	w.lose(codes.Unavailable)
	w.open()
	message, _ = w.sent()
	w.is(message.Closing, "not said again")
	w.lose(codes.OK)
	w.is(w.core.done && w.core.confirmed, "not confirmed")
	w.begin(2)
	w.endUnheard(3, 1)
	w.is(w.core.buffer.waiting() == 0 && w.core.buffer.dropped == 1, "something was taken")
	w.core.abandon()
	w.is(w.core.confirmed, "no longer confirmed")
}

func TestAClientThatHasSentNothingHasNothingToClose(t *testing.T) {
	w := newWire(t, nil)
	w.core.close(w.now)
	w.is(w.core.done && w.core.confirmed, "it is not done")
}

func TestWhatIsLeftAtTheDeadlineIsCountedAsDropped(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	w.beginMany(1, 3)
	w.linger()
	w.sent()
	w.begin(4)
	w.core.close(w.now)
	w.core.abandon()
	w.is(!w.core.confirmed && told[Closed](w)[0].Left == 7, "%v", told[Closed](w))
}

func TestACountStaysWhereTheDatabaseHasNoMoreRoom(t *testing.T) {
	r := report{requests: maxRequests - 1}
	r.count(1<<32 - 1)
	if r.requests != maxRequests {
		t.Fatal(r.requests)
	}
}

func TestWhatWasSentUnderTheOldClientIDVouchesForNothingUnderTheNewOne(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	w.begin(1)
	w.linger()
	w.settle()
	w.lose(codes.Aborted)
	w.core.opened(w.now)
	w.is(!w.ack(1), "number 1 was never sent under this client_id")
}

func TestAReportThatIsHeldBackMakesNothingDueWhenItChanges(t *testing.T) {
	w := newWire(t, nil)
	w.open()
	r := w.begin(1)
	w.linger()
	w.sent()
	w.lose(codes.InvalidArgument)
	w.is(!w.core.buffer.changed(r, w.now), "the shell is woken for nothing")
}
