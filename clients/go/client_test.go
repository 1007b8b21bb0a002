package appstatsd

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const patience = time.Minute

// server is the model daemon behind a real gRPC server.
type server struct {
	appstatsv1.UnimplementedSessionReportServiceServer
	path string
	grpc *grpc.Server

	mutex   sync.Mutex // guards what follows
	daemon  *modelDaemon
	clients []string // what appstats-client said
	streams int
	refuse  error // the next message meets it
}

func newServer(t testing.TB) *server {
	s := &server{path: filepath.Join(t.TempDir(), "s"), daemon: newModelDaemon()}
	s.start(t)
	t.Cleanup(func() { s.grpc.Stop() })
	return s
}

func (s *server) target() string { return "unix:" + s.path }

func (s *server) start(t testing.TB) {
	listener, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.grpc = grpc.NewServer()
	appstatsv1.RegisterSessionReportServiceServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(listener) }() // ends with Stop
}

func (s *server) StreamReports(stream grpc.BidiStreamingServer[appstatsv1.StreamReportsRequest, appstatsv1.StreamReportsResponse]) error {
	own, _ := metadata.FromIncomingContext(stream.Context())
	clientID := ""
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		acked, over, err := s.take(message, &clientID, own)
		if over || err != nil {
			stream.SetTrailer(metadata.Pairs(retryDelayKey, "1"))
			return err
		}
		if err := stream.Send(&appstatsv1.StreamReportsResponse{AckedSequence: acked}); err != nil {
			return err
		}
	}
}

func (s *server) take(message *appstatsv1.StreamReportsRequest, clientID *string, own metadata.MD) (acked uint64, over bool, err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := s.refuse; err != nil {
		s.refuse = nil
		return 0, false, err
	}
	switch {
	case *clientID == "":
		*clientID = message.ClientId
		s.streams++
		s.clients = append(s.clients, own.Get("appstats-client")...)
		return s.daemon.first(message), false, nil
	case message.Closing:
		s.daemon.closed[*clientID] = true
		return 0, true, nil
	}
	return s.daemon.batch(*clientID, message), false, nil
}

// eventually asks again until it is so.
func (s *server) eventually(t testing.TB, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s.mutex.Lock()
		so := is()
		s.mutex.Unlock()
		if so {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it never came")
		}
	}
}

func quick() *Limits {
	limits := DefaultLimits()
	limits.Linger = time.Millisecond
	limits.BackoffBase, limits.BackoffMax, limits.ChannelBackoffMax = time.Millisecond, 5*time.Millisecond, time.Millisecond
	return &limits
}

func newClient(t testing.TB, s *server) *Client {
	c, err := New(s.target(), Options{Limits: quick(), OnEvent: func(Event) {}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSessionsOfManyGoroutinesReachTheDaemonAndCloseConfirmsThem(t *testing.T) {
	s := newServer(t)
	c := newClient(t, s)
	var proxy sync.WaitGroup
	for range 8 {
		proxy.Go(func() {
			for range 500 {
				session := c.Begin(code)
				session.Update(1)
				session.End()
				session.End()
				session.Update(7)
			}
		})
	}
	proxy.Wait()
	live := c.Begin(code)
	if !c.Close(patience) {
		t.Fatal("not confirmed")
	}
	if len(s.daemon.sessions) != 4001 || s.daemon.sessions[live.ID()].endedNS == 0 || len(s.daemon.closed) != 1 {
		t.Fatalf("%d sessions", len(s.daemon.sessions))
	}
	for _, known := range s.daemon.sessions {
		if known.endedNS == 0 || known.requests > 2 {
			t.Fatalf("%+v", known)
		}
	}
	if s.clients[0] != "go/"+Version {
		t.Fatal(s.clients)
	}
	c.Begin(code).End()
	if !c.Close(0) || len(s.daemon.sessions) != 4001 {
		t.Fatal("a closed client took something")
	}
}

func TestAStreamThatEndsIsOpenedAgainAndNothingIsLost(t *testing.T) {
	s := newServer(t)
	c := newClient(t, s)
	for _, code_ := range []codes.Code{codes.Unavailable, codes.AlreadyExists, codes.Aborted, codes.Internal} {
		s.mutex.Lock()
		s.refuse = status.Error(code_, "because")
		s.mutex.Unlock()
		c.Begin(code)
		s.eventually(t, func() bool { return s.refuse == nil })
	}
	s.eventually(t, func() bool { return len(s.daemon.sessions) == 4 })
	if !c.Close(patience) {
		t.Fatal("not confirmed")
	}
}

func TestCloseKeepsItsDeadlineWhenNobodyIsThere(t *testing.T) {
	c, err := New("unix:"+filepath.Join(t.TempDir(), "nobody"), Options{Limits: quick(), OnEvent: func(Event) {}})
	if err != nil {
		t.Fatal(err)
	}
	c.Begin(code)
	if c.Close(10 * time.Millisecond) {
		t.Fatal("confirmed by nobody")
	}
	if stats := c.Stats(); stats.DroppedReports != 1 || stats.Connected {
		t.Fatalf("%+v", stats)
	}
}

func TestAnOnEventThatPanicsCostsNoReports(t *testing.T) {
	s := newServer(t)
	c, err := New(s.target(), Options{Limits: quick(), OnEvent: func(Event) { panic("mine") }})
	if err != nil {
		t.Fatal(err)
	}
	c.Begin(code)
	if !c.Close(patience) || len(s.daemon.sessions) != 1 {
		t.Fatal("lost")
	}
}

func TestNothingRunsBeforeTheFirstSessionAndAfterClose(t *testing.T) {
	s := newServer(t)
	before := runtime.NumGoroutine()
	idle := newClient(t, s)
	idle.Close(patience)
	if s.streams != 0 {
		t.Fatal("it connected")
	}
	for range 20 {
		c := newClient(t, s)
		c.Begin(code)
		if !c.Close(patience) {
			t.Fatal("not confirmed")
		}
	}
	s.eventually(t, func() bool { return runtime.NumGoroutine() <= before })
}

// The soak of 1,000,000 sessions and 100 reconnects is `APPSTATSD_SOAK=1 go test -run Leave`; a part of it shows a leak as well.
func TestReconnectsAndManySessionsLeaveNoGoroutineAndNoMemoryBehind(t *testing.T) {
	sessions, reconnects := 50_000, 20
	if os.Getenv("APPSTATSD_SOAK") != "" {
		sessions, reconnects = 1_000_000, 100
	}
	s := newServer(t)
	c := newClient(t, s)
	work := func(sessions, reconnects int) {
		for i := range sessions {
			reconnect := i%(sessions/reconnects) == 0
			if reconnect {
				s.mutex.Lock()
				s.refuse = status.Error(codes.Unavailable, "again")
				s.mutex.Unlock()
			}
			c.Begin(code).End()
			if reconnect {
				s.eventually(t, func() bool { return s.refuse == nil })
			}
			if i%1000 == 0 {
				s.rest(t, c)
			}
		}
		s.rest(t, c)
	}
	work(5000, 5)
	goroutines, memory := runtime.NumGoroutine(), inUse()
	work(sessions, reconnects)
	s.eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines })
	if now := inUse(); now > memory+4<<20 {
		t.Fatalf("%d bytes in use, %d before", now, memory)
	}
	if stats := c.Stats(); stats.DroppedReports != 0 {
		t.Fatalf("%+v", stats)
	}
	c.Close(patience)
}

// rest waits until all is acknowledged, and lets the model daemon forget, so that its memory does not count.
func (s *server) rest(t testing.TB, c *Client) {
	s.eventually(t, func() bool {
		stats := c.Stats()
		return stats.PendingReports+stats.UnacknowledgedReports == 0
	})
	s.mutex.Lock()
	defer s.mutex.Unlock()
	clear(s.daemon.sessions)
	for _, known := range s.daemon.clients {
		clear(known.contents)
	}
}

func inUse() uint64 {
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return memory.HeapAlloc
}

func TestWhatIsWrongIsSaidWhereItIsMade(t *testing.T) {
	id := [16]byte{1}
	for name, err := range map[string]error{
		"nil id":       second_(NewApp([16]byte{}, id, id, Path, "code")),
		"no method":    second_(NewApp(id, id, id, 0, "code")),
		"no slug":      second_(NewApp(id, id, id, Path, "")),
		"a NUL":        second_(NewApp(id, id, id, Path, "a\x00b")),
		"no UTF-8":     second_(NewApp(id, id, id, Path, "\xff")),
		"too long":     second_(NewApp(id, id, id, Path, string(make([]rune, 257)))),
		"no target":    second_(New("somewhere", Options{})),
		"TLS on unix":  second_(New("unix:/x", Options{TLS: &TLS{}})),
		"empty TLS":    second_(New("localhost:1", Options{TLS: &TLS{}})),
		"wrong limits": second_(New("unix:/x", Options{Limits: &Limits{}})),
		"wrong id":     second_(ParseID("00")),
	} {
		if err == nil {
			t.Errorf("%s is no error", name)
		}
	}
	if _, err := NewApp(id, id, id, Terminal, ""); err != nil {
		t.Error(err)
	}
	if parsed, err := ParseID("01000000-0000-0000-0000-000000000000"); err != nil || parsed != id {
		t.Error(parsed, err)
	}
}

func second_[T any](_ T, err error) error { return err }

func TestAStepOfTheWallClockMakesNoSessionNegativeOrLong(t *testing.T) {
	s := newServer(t)
	wall, monotonic := 1_700_000_000*second, second
	clock := Clock{Wall: func() int64 { return wall }, Monotonic: func() int64 { return monotonic }}
	c, err := New(s.target(), Options{Limits: quick(), OnEvent: func(Event) {}, Clock: &clock})
	if err != nil {
		t.Fatal(err)
	}
	begin := func(started int64) *Session {
		options := BeginOptions{Unreported: true}
		if started != 0 {
			options.Started = time.Unix(0, started)
		}
		return c.BeginWith(code, options)
	}
	plain, given, ahead := begin(0), begin(wall-100*second), begin(wall+100*second)
	c.mutex.Lock() // the shell reads the clock under it
	wall -= 3600 * second
	monotonic += 5 * second
	c.mutex.Unlock()
	for session, lasted := range map[*Session]int64{plain: 5, given: 105, ahead: 5} {
		session.End()
		if session.report.endedNS-session.report.startedNS != lasted*second {
			t.Errorf("%d ns, not %d s", session.report.endedNS-session.report.startedNS, lasted)
		}
	}
	c.Close(0)
}

func BenchmarkBeginEnd(b *testing.B) {
	s := newServer(b)
	c := newClient(b, s)
	for b.Loop() {
		c.Begin(code).End()
	}
	b.StopTimer()
	c.Close(patience)
}
