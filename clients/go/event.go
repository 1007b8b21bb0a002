package appstatsd

import (
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
)

// Event is what happened, for logs and metrics: Connected, Disconnected, Rejected, BatchRefused, Dropped, ClientIDReplaced
// or Closed. How many there are depends on what the transport does, never on how many reports there are.
type Event interface{ event() }

// Connected: a stream was opened and answered.
type Connected struct {
	ClientID string
	// AckedSequence is the number that the daemon held for this client_id.
	AckedSequence uint64
}

// Disconnected: a stream ended, or could not be opened; another attempt follows.
type Disconnected struct {
	Status  codes.Code
	Details string
	// Attempt is 1 for the first since a stream was answered.
	Attempt int
	// Retry is how long until the next attempt.
	Retry time.Duration
}

// Rejection is one report that the daemon did not accept.
type Rejection struct {
	SessionID [16]byte
	// Reason is the RejectionReason by name.
	Reason string
	// Message says the field, the value and what is allowed.
	Message string
}

// Rejected: the daemon did not accept some reports; their neighbors it did.
type Rejected struct{ Rejections []Rejection }

// BatchRefused: the daemon refused a whole batch, and it is not sent again.
type BatchRefused struct {
	Status  codes.Code
	Details string
	// Reports is how many it held.
	Reports int
	// Dropped is how many of them are lost; the others are sent again, each alone.
	Dropped int
}

// Dropped: there was no room for reports, or the client was closed.
type Dropped struct {
	// Reports is how many since this was last told.
	Reports uint64
	// Total is how many since the client began.
	Total uint64
}

// ClientIDReplaced: the client took a new client_id.
type ClientIDReplaced struct {
	Old, New string
	Status   codes.Code
	Details  string
}

// Closed: the client is closed.
type Closed struct {
	// Confirmed says whether the daemon has confirmed everything.
	Confirmed bool
	// Left is how many reports were not acknowledged.
	Left int
}

func (Connected) event()        {}
func (Disconnected) event()     {}
func (Rejected) event()         {}
func (BatchRefused) event()     {}
func (Dropped) event()          {}
func (ClientIDReplaced) event() {}
func (Closed) event()           {}

// LogEvents makes an OnEvent that writes to a logger; a client that was given none writes to slog.Default().
func LogEvents(log *slog.Logger) func(Event) {
	return func(event Event) {
		switch e := event.(type) {
		case Connected:
			log.Info("connected to appstatsd", "client_id", e.ClientID)
		case Disconnected:
			say := log.Debug // an outage is one warning, however long it lasts
			if e.Attempt == 1 {
				say = log.Warn
			}
			say("appstatsd is not reached; reports wait", "status", e.Status, "details", e.Details, "retry", e.Retry)
		case Rejected:
			first := e.Rejections[0]
			log.Warn("appstatsd rejected reports", "reports", len(e.Rejections),
				"first_session", fmt.Sprintf("%x", first.SessionID), "reason", first.Reason, "message", first.Message)
		case BatchRefused:
			log.Error("appstatsd refused a batch; what is not lost is sent again",
				"reports", e.Reports, "lost", e.Dropped, "status", e.Status, "details", e.Details)
		case Dropped:
			log.Warn("no room for reports; they are lost", "reports", e.Reports, "since_start", e.Total)
		case ClientIDReplaced:
			say := log.Warn
			if isMistakenIdentity(e.Status) {
				say = log.Error
			}
			say("took a new client_id", "old", e.Old, "new", e.New, "status", e.Status, "details", e.Details)
		case Closed:
			say := log.Info
			if !e.Confirmed {
				say = log.Warn
			}
			say("closed", "unconfirmed_reports", e.Left)
		}
	}
}
