// Command conformance does through the Go client what it is told on standard input; tests/conformance/README.md has the
// instructions.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	appstatsd "github.com/appstatsd/appstatsd/clients/go"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

type answer map[string]any

type told struct {
	Do             string
	Target         string
	Limits         map[string]float64
	TLS            *struct{ CA, Certificate, Key string }
	Session        string
	App            app
	Requests       *uint32
	ReportLive     *bool   `json:"report_live"`
	SessionID      string  `json:"session_id"`
	StartedNS      int64   `json:"started_ns"`
	Seconds        float64 `json:"seconds"`
	TimeoutSeconds float64 `json:"timeout_seconds"`
	Rounds         int
	Pairs          int
	Calls          int
}

type app struct {
	UserID       string `json:"user_id"`
	WorkspaceID  string `json:"workspace_id"`
	AgentID      string `json:"agent_id"`
	AccessMethod string `json:"access_method"`
	SlugOrPort   string `json:"slug_or_port"`
}

// command is one client, and sessions by name.
type command struct {
	client   *appstatsd.Client
	sessions map[string]*appstatsd.Session

	mutex      sync.Mutex // guards what follows
	events     []answer
	wallStepNS int64
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	c := &command{sessions: map[string]*appstatsd.Session{}}
	instructions, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var t told
		if err := instructions.Decode(&t); err != nil {
			return // the end of the input: at once, and without closing the client
		}
		said, err := c.do(t)
		if err != nil {
			said = answer{"error": err.Error()}
		}
		if err := answers.Encode(said); err != nil {
			log.Fatal(err)
		}
		if err := out.Flush(); err != nil {
			log.Fatal(err)
		}
	}
}

func (c *command) do(t told) (answer, error) {
	switch t.Do {
	case "open":
		return answer{}, c.open(t)
	case "begin":
		return c.begin(t)
	case "update":
		c.sessions[t.Session].Update(*t.Requests)
		return answer{}, nil
	case "end":
		c.sessions[t.Session].End()
		return answer{}, nil
	case "stats":
		s := c.client.Stats()
		return answer{
			"client_id": s.ClientID, "connected": s.Connected, "live_sessions": s.LiveSessions,
			"pending_reports": s.PendingReports, "unacknowledged_reports": s.UnacknowledgedReports,
			"acknowledged_reports": s.AcknowledgedReports, "rejected_reports": s.RejectedReports,
			"dropped_reports": s.DroppedReports,
		}, nil
	case "events":
		c.mutex.Lock()
		defer c.mutex.Unlock()
		happened := append([]answer{}, c.events...)
		c.events = nil
		return answer{"events": happened}, nil
	case "step_wall":
		c.mutex.Lock()
		defer c.mutex.Unlock()
		c.wallStepNS += int64(t.Seconds * 1e9)
		return answer{}, nil
	case "close":
		return answer{"confirmed": c.client.Close(seconds(t.TimeoutSeconds))}, nil
	case "bench":
		return bench(t)
	}
	return nil, fmt.Errorf("%q is no instruction", t.Do)
}

func (c *command) open(t told) (err error) {
	limits, err := limitsOf(t.Limits)
	if err != nil {
		return err
	}
	options := appstatsd.Options{Limits: &limits, OnEvent: c.told}
	clock := appstatsd.SystemClock()
	wall := clock.Wall
	clock.Wall = func() int64 {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		return wall() + c.wallStepNS
	}
	options.Clock = &clock
	if t.TLS != nil {
		if options.TLS, err = appstatsd.TLSFromFiles(t.TLS.CA, t.TLS.Certificate, t.TLS.Key); err != nil {
			return err
		}
	}
	c.client, err = appstatsd.New(t.Target, options)
	return err
}

func (c *command) begin(t told) (answer, error) {
	app, err := appOf(t.App)
	if err != nil {
		return nil, err
	}
	options := appstatsd.BeginOptions{Unreported: t.ReportLive != nil && !*t.ReportLive}
	if t.Requests != nil {
		options.Requests = *t.Requests
	}
	if t.SessionID != "" {
		if options.SessionID, err = appstatsd.ParseID(t.SessionID); err != nil {
			return nil, err
		}
	}
	if t.StartedNS != 0 {
		options.Started = time.Unix(0, t.StartedNS)
	}
	session := c.client.BeginWith(app, options)
	c.sessions[t.Session] = session
	id := session.ID()
	return answer{"session_id": fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])}, nil
}

func (c *command) told(event appstatsd.Event) {
	said := answer{"event": strings.ReplaceAll(strings.TrimPrefix(fmt.Sprintf("%T", event), "appstatsd."), "ID", "Id")}
	switch e := event.(type) {
	case appstatsd.Disconnected:
		said["status"], said["retry_seconds"] = name(e.Status), e.Retry.Seconds()
	case appstatsd.Rejected:
		reasons := []string{}
		for _, rejection := range e.Rejections {
			reasons = append(reasons, rejection.Reason)
		}
		said["reasons"] = reasons
	case appstatsd.BatchRefused:
		said["status"], said["reports"], said["dropped"] = name(e.Status), e.Reports, e.Dropped
	case appstatsd.Dropped:
		said["reports"] = e.Reports
	case appstatsd.ClientIDReplaced:
		said["status"] = name(e.Status)
	case appstatsd.Closed:
		said["confirmed"], said["left"] = e.Confirmed, e.Left
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.events = append(c.events, said)
}

// name is that of a status as in UNAVAILABLE.
func name(status codes.Code) string { return code.Code(status).String() }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func appOf(a app) (appstatsd.App, error) {
	var ids [3][16]byte
	for i, text := range []string{a.UserID, a.WorkspaceID, a.AgentID} {
		id, err := appstatsd.ParseID(text)
		if err != nil {
			return appstatsd.App{}, err
		}
		ids[i] = id
	}
	methods := map[string]appstatsd.AccessMethod{
		"path": appstatsd.Path, "subdomain": appstatsd.Subdomain, "terminal": appstatsd.Terminal,
	}
	return appstatsd.NewApp(ids[0], ids[1], ids[2], methods[a.AccessMethod], a.SlugOrPort)
}

func limitsOf(told map[string]float64) (appstatsd.Limits, error) {
	limits := appstatsd.DefaultLimits()
	counts := map[string]*int{
		"batch_max_reports": &limits.BatchMaxReports, "batch_max_bytes": &limits.BatchMaxBytes,
		"window_batches": &limits.WindowBatches, "max_live_sessions": &limits.MaxLiveSessions,
		"max_pending_reports": &limits.MaxPendingReports,
	}
	times := map[string]*time.Duration{
		"linger_seconds": &limits.Linger, "backoff_base_seconds": &limits.BackoffBase,
		"backoff_max_seconds": &limits.BackoffMax, "channel_backoff_max_seconds": &limits.ChannelBackoffMax,
		"connect_timeout_seconds": &limits.ConnectTimeout, "retry_slowest_seconds": &limits.RetrySlowest,
		"refused_retry_seconds": &limits.RefusedRetry, "keepalive_time_seconds": &limits.KeepaliveTime,
		"keepalive_timeout_seconds": &limits.KeepaliveTimeout,
	}
	for name, value := range told {
		if count, known := counts[name]; known {
			*count = int(value)
		} else if wait, known := times[name]; known {
			*wait = seconds(value)
		} else {
			return limits, fmt.Errorf("%q is no limit", name)
		}
	}
	return limits, nil
}

func bench(t told) (answer, error) {
	client, err := appstatsd.New(t.Target, appstatsd.Options{})
	if err != nil {
		return nil, err
	}
	app, err := appstatsd.NewApp([16]byte{15: 1}, [16]byte{15: 2}, [16]byte{15: 3}, appstatsd.Path, "bench")
	if err != nil {
		return nil, err
	}
	costs := []time.Duration{}
	for range t.Rounds + 1 {
		began := time.Now()
		for range t.Pairs {
			client.Begin(app).End()
		}
		costs = append(costs, time.Since(began)/time.Duration(t.Pairs))
		for s := client.Stats(); s.PendingReports+s.UnacknowledgedReports > 0; s = client.Stats() {
			time.Sleep(10 * time.Millisecond)
		}
	}
	client.Close(time.Minute)
	calls, err := unaryCalls(t.Target, t.Calls+t.Calls/10)
	if err != nil {
		return nil, err
	}
	return answer{
		"begin_end_ns":  median(costs[1:]).Nanoseconds(),
		"unary_call_ns": median(calls[t.Calls/10:]).Nanoseconds(),
	}, nil
}

func unaryCalls(target string, count int) ([]time.Duration, error) {
	channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer channel.Close()
	health := grpc_health_v1.NewHealthClient(channel)
	took := []time.Duration{}
	for range count {
		began := time.Now()
		if _, err := health.Check(context.Background(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

func median(values []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
