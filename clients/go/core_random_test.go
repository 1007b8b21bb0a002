package appstatsd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
	"google.golang.org/grpc/codes"
)

// network is sessions that come and go, a stream that moves message by message, and everything that can happen to it. A
// model daemon stands opposite a core with tight limits; messages and acknowledgements are lost with their stream.
type network struct {
	*rand.Rand
	now      int64
	made     int
	daemon   *modelDaemon
	core     *core
	ever     map[[16]byte]*held // as reported to daemons that forgot, too
	reports  []*report
	poison   *report
	isOpen   bool
	clientID string
	up       []*appstatsv1.StreamReportsRequest
	down     []uint64
}

var tight = Limits{
	BatchMaxReports: 3, BatchMaxBytes: 1 << 20, Linger: 1e9, WindowBatches: 2, MaxLiveSessions: 4, MaxPendingReports: 5,
	BackoffBase: 25e7, BackoffMax: 8e9, RetrySlowest: 10e9, RefusedRetry: 60e9,
}

var everyStatus = []codes.Code{
	codes.OK, codes.Unavailable, codes.InvalidArgument, codes.ResourceExhausted, codes.AlreadyExists, codes.Aborted,
	codes.Unauthenticated, codes.PermissionDenied, codes.Internal, codes.Canceled,
}

func newNetwork(seed uint64) *network {
	n := &network{Rand: rand.New(rand.NewPCG(seed, 0)), now: second, daemon: newModelDaemon(), ever: map[[16]byte]*held{}}
	n.core = newCore(tight, func() string { n.made++; return fmt.Sprintf("client-%d", n.made) }, n.Float64)
	return n
}

func (n *network) step() {
	switch n.IntN(16) {
	case 0, 1:
		r := &report{app: code, startedNS: 1_700_000_000*second + n.now, originNS: n.now, requests: 1}
		r.sessionID[0], r.sessionID[15] = byte(len(n.reports)>>8), byte(len(n.reports))
		r.sessionID[7] = 1
		n.reports = append(n.reports, r)
		if n.IntN(2) == 0 {
			n.core.buffer.begin(r, n.now)
		}
	case 2, 3, 4:
		if r := n.any(); r != nil && r.endedNS == 0 {
			if n.IntN(2) == 0 {
				r.count(1)
				n.core.buffer.changed(r, n.now)
			} else {
				r.end(n.now)
				n.core.buffer.ended(r, n.now)
			}
		}
	case 5, 6:
		n.now += []int64{3e8, 1e9, 10e9, 60e9}[n.IntN(4)]
	case 7:
		n.poison = nil
		if n.IntN(2) == 0 {
			n.poison = n.any()
		}
	case 8, 9:
		n.open()
	case 10, 11, 12:
		n.send()
	case 13:
		n.arrive()
	case 14:
		n.answer()
	case 15:
		n.lose(everyStatus[n.IntN(len(everyStatus))])
		if n.IntN(4) == 0 {
			n.forget()
		}
	}
	stats := n.core.stats()
	must(stats.LiveSessions <= 4 && stats.PendingReports <= 9 && stats.UnacknowledgedReports <= 6, "too much: %+v", stats)
}

func (n *network) any() *report {
	if len(n.reports) == 0 {
		return nil
	}
	return n.reports[n.IntN(len(n.reports))]
}

// forget: a daemon without a journal was started again.
func (n *network) forget() {
	n.remember()
	n.daemon = newModelDaemon()
}

func (n *network) remember() {
	for id, known := range n.daemon.sessions {
		so := n.ever[id]
		if so == nil {
			so = &held{}
			n.ever[id] = so
		}
		so.endedNS, so.requests = max(so.endedNS, known.endedNS), max(so.requests, known.requests)
	}
}

func (n *network) open() {
	if !n.isOpen && n.now >= n.core.connectAtNS && !n.core.done {
		n.isOpen, n.clientID, n.down = true, "", nil
		n.up = []*appstatsv1.StreamReportsRequest{n.core.opened(n.now)}
	}
}

func (n *network) send() bool {
	if !n.isOpen {
		return false
	}
	message := n.core.nextMessage(n.now)
	if message == nil {
		must(n.core.lookAgainAtNS() > n.now, "the shell would spin")
		return false
	}
	n.up = append(n.up, message)
	return true
}

func (n *network) arrive() bool {
	if !n.isOpen || len(n.up) == 0 {
		return false
	}
	message := n.up[0]
	n.up = n.up[1:]
	switch {
	case n.clientID == "":
		n.clientID = message.ClientId
		n.down = append(n.down, n.daemon.first(message))
	case message.Closing:
		n.lose(codes.OK)
	case n.poison != nil && n.holds(message):
		n.lose(codes.InvalidArgument)
	default:
		n.down = append(n.down, n.daemon.batch(n.clientID, message))
	}
	return true
}

func (n *network) holds(message *appstatsv1.StreamReportsRequest) bool {
	for id := range slices.Chunk(message.Columns.SessionIds, 16) {
		if [16]byte(id) == n.poison.sessionID {
			return true
		}
	}
	return false
}

func (n *network) answer() bool {
	if !n.isOpen || len(n.down) == 0 {
		return false
	}
	acked := n.down[0]
	n.down = n.down[1:]
	must(n.core.answered(&appstatsv1.StreamReportsResponse{AckedSequence: acked}, n.now), "an acknowledgement was not ours")
	return true
}

func (n *network) lose(status codes.Code) {
	if n.isOpen {
		n.isOpen, n.up, n.down = false, nil, nil
		n.core.ended(status, "", noDelay, n.now)
	}
}

// pump: everything works; moves all that can move.
func (n *network) pump() {
	n.poison = nil
	for range 1000 {
		if n.core.done {
			return
		}
		if !n.isOpen {
			n.now = max(n.now, n.core.connectAtNS)
			n.open()
		}
		moved := n.send()
		for n.arrive() || n.answer() {
			moved = true
		}
		if !moved && n.isOpen {
			at := n.core.lookAgainAtNS()
			if at == never {
				return
			}
			n.now = max(n.now, at)
		}
	}
	panic("it never comes to rest")
}

func (n *network) check() {
	n.lose(codes.Unavailable)
	n.pump()
	n.remember()
	stats := n.core.stats()
	must(stats.PendingReports == 0 && stats.UnacknowledgedReports == 0, "not at rest: %+v", stats)
	missing := uint64(0)
	for _, r := range n.reports {
		known := n.ever[r.sessionID]
		switch {
		case r.tracked:
			must(n.daemon.sessions[r.sessionID].requests == r.requests && r.endedNS == 0, "a live session is not known: %+v", r)
		case r.saidLive || (known != nil && r.endedNS != 0):
			must(known.endedNS == uint64(r.endedNS) && known.requests == r.requests, "not the newest: %+v", r)
		case r.endedNS != 0:
			missing++
		}
	}
	must(missing <= stats.DroppedReports, "%d are missing, %d are counted", missing, stats.DroppedReports)
	n.core.close(n.now)
	n.pump()
	n.remember()
	must(n.core.confirmed, "not confirmed")
	for _, r := range n.reports {
		must(!r.saidLive || n.ever[r.sessionID].endedNS == uint64(r.endedNS), "it stays in use: %+v", r)
	}
}

func TestWhateverTheTransportDoesEverySessionsNewestStateReachesTheDaemonWithinTheBounds(t *testing.T) {
	for seed := range uint64(3000) {
		func() {
			defer func() {
				if failed := recover(); failed != nil {
					t.Fatalf("seed %d: %v", seed, failed)
				}
			}()
			n := newNetwork(seed)
			for range 150 {
				n.step()
			}
			n.check()
		}()
	}
}
