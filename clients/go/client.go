// Package appstatsd reports the sessions of a reverse proxy to the appstatsd daemon on its host.
//
// What a client does is written down in docs/client-protocol.md; its parts are the files of this package.
package appstatsd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	randv2 "math/rand/v2"
	"sync"
	"time"

	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Options of a client. The zero value is right for most: a unix socket, the default limits, events to slog.Default().
type Options struct {
	// TLS for HOST:PORT; nil is none.
	TLS *TLS
	// Limits; nil is DefaultLimits.
	Limits *Limits
	// OnEvent is called by the client's own goroutine, never on the proxy's call; nil is LogEvents of slog.Default().
	OnEvent func(Event)
	// Clock; nil is SystemClock.
	Clock *Clock
}

// Client reports sessions, from any goroutine. Make one for each process.
//
// Two goroutines are its shell, from the first session until it is closed: one opens streams, one after another, and reads
// answers; the other writes to the stream that is open. No lock is held over I/O.
type Client struct {
	channel *grpc.ClientConn
	onEvent func(Event)
	clock   Clock
	changed chan struct{} // has an entry when a waiting sender has to look again
	over    chan struct{} // closed when the shell has ended

	mutex   sync.Mutex // guards what follows, and every report
	core    *core
	started bool
	cancel  context.CancelFunc // ends the stream that is open; nil: none is
}

// New makes a client. target is unix:PATH or HOST:PORT. Nothing is started before the first session begins.
func New(target string, options Options) (*Client, error) {
	limits := DefaultLimits()
	if options.Limits != nil {
		limits = *options.Limits
	}
	if err := limits.check(); err != nil {
		return nil, err
	}
	channel, err := newChannel(target, options.TLS, limits)
	if err != nil {
		return nil, err
	}
	c := &Client{
		channel: channel,
		onEvent: options.OnEvent,
		clock:   SystemClock(),
		changed: make(chan struct{}, 1),
		over:    make(chan struct{}),
		core:    newCore(limits, newClientID, randv2.Float64),
	}
	if c.onEvent == nil {
		c.onEvent = LogEvents(slog.Default())
	}
	if options.Clock != nil {
		c.clock = *options.Clock
	}
	return c, nil
}

// Close ends what is left and sends it; true when the daemon has confirmed everything within the timeout. Later calls do
// nothing. Not to be called by OnEvent, which runs on the goroutine that this waits for.
func (c *Client) Close(timeout time.Duration) bool {
	c.mutex.Lock()
	c.core.close(c.clock.Monotonic())
	if c.core.done && c.cancel != nil {
		c.cancel()
	}
	c.wake()
	started := c.started
	c.mutex.Unlock()
	if started {
		deadline := time.NewTimer(timeout)
		defer deadline.Stop()
		select {
		case <-c.over:
		case <-deadline.C:
		}
	}
	c.mutex.Lock()
	c.core.abandon()
	if c.cancel != nil {
		c.cancel()
	}
	c.wake()
	c.mutex.Unlock()
	if started {
		<-c.over
	}
	c.tell()
	_ = c.channel.Close() // says only that it was closed before
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.core.confirmed
}

// Stats is what the client holds and has done so far.
func (c *Client) Stats() Stats {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.core.stats()
}

// start starts the shell, if it was not. The lock is held.
func (c *Client) start() {
	if !c.started && !c.core.done {
		c.started = true
		go c.run()
	}
}

// wake lets a waiting sender look again. It never waits.
func (c *Client) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *Client) run() {
	defer close(c.over)
	for c.waitForAttempt() {
		c.report()
	}
}

// waitForAttempt waits until a stream is to be opened. False: there is nothing more to do.
func (c *Client) waitForAttempt() bool {
	for {
		c.mutex.Lock()
		done, at := c.core.done, c.core.connectAtNS
		c.mutex.Unlock()
		if done {
			return false
		}
		if at <= c.clock.Monotonic() {
			return true
		}
		c.waitUntil(context.Background(), at)
	}
}

// waitUntil waits until then (never: for ever), until something has changed, or until the stream is over.
func (c *Client) waitUntil(stream context.Context, atNS int64) {
	var due <-chan time.Time
	if atNS != never {
		timer := time.NewTimer(time.Duration(max(0, atNS-c.clock.Monotonic())))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-c.changed:
	case <-stream.Done():
	}
}

// report opens a stream and lives through it.
func (c *Client) report() {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "appstats-client", "go/"+Version))
	c.mutex.Lock()
	if c.core.done {
		c.mutex.Unlock()
		cancel()
		return
	}
	c.cancel = cancel
	first := c.core.opened(c.clock.Monotonic())
	c.mutex.Unlock()

	stream, err := appstatsv1.NewSessionReportServiceClient(c.channel).StreamReports(ctx)
	delay := noDelay
	if err == nil {
		writer := make(chan struct{})
		go func() {
			defer close(writer)
			c.write(stream, first)
		}()
		err = c.read(stream, cancel)
		delay = retryDelay(stream.Trailer())
		cancel()
		<-writer
	}
	cancel()

	code, details := codes.OK, ""
	if err != nil {
		code, details = status.Code(err), status.Convert(err).Message()
	}
	c.mutex.Lock()
	c.cancel = nil
	c.core.ended(code, details, delay, c.clock.Monotonic())
	c.mutex.Unlock()
	c.tell()
}

// read takes answers until the stream ends; nil: with OK.
func (c *Client) read(stream grpc.BidiStreamingClient[appstatsv1.StreamReportsRequest, appstatsv1.StreamReportsResponse], cancel context.CancelFunc) error {
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.mutex.Lock()
		isOurs := c.core.answered(response, c.clock.Monotonic())
		c.mutex.Unlock()
		c.wake()
		c.tell()
		if !isOurs {
			cancel()
		}
	}
}

// write writes what goes out on one stream, as soon as it may; a write waits until there is room for it.
func (c *Client) write(stream grpc.BidiStreamingClient[appstatsv1.StreamReportsRequest, appstatsv1.StreamReportsResponse], message *appstatsv1.StreamReportsRequest) {
	ctx := stream.Context()
	for ctx.Err() == nil {
		if message != nil {
			if stream.Send(message) != nil {
				return // the reader gets the reason
			}
		} else {
			c.mutex.Lock()
			at := c.core.lookAgainAtNS()
			c.mutex.Unlock()
			c.waitUntil(ctx, at)
		}
		c.mutex.Lock()
		message = c.core.nextMessage(c.clock.Monotonic())
		c.mutex.Unlock()
	}
}

// tell hands what happened to OnEvent, without the lock.
func (c *Client) tell() {
	c.mutex.Lock()
	happened := c.core.takeEvents()
	c.mutex.Unlock()
	for _, event := range happened {
		c.tellOne(event)
	}
}

func (c *Client) tellOne(event Event) {
	defer func() {
		if panicked := recover(); panicked != nil { // the proxy's own code: its mistakes must not cost reports
			slog.Error("OnEvent panicked", "event", fmt.Sprintf("%+v", event), "panic", panicked)
		}
	}()
	c.onEvent(event)
}

// newClientID makes 128 random bits in hexadecimal.
func newClientID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}
