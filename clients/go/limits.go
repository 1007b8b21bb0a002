package appstatsd

import (
	"fmt"
	"time"
)

// Limits says how much a client may hold, and how long it may wait. Start from DefaultLimits.
//
// A client holds at most MaxLiveSessions + MaxPendingReports + WindowBatches × BatchMaxReports reports.
type Limits struct {
	// BatchMaxReports is how many reports a batch has; at most 10,000.
	BatchMaxReports int
	// BatchMaxBytes is how many bytes a batch has; at most 4 MiB.
	BatchMaxBytes int
	// Linger is how long a report waits for others to share its batch with; may be 0.
	Linger time.Duration
	// WindowBatches is how many batches are on their way without an acknowledgement.
	WindowBatches int
	// MaxLiveSessions bounds the sessions that the daemon may believe to be in use, or soon will. Others are reported
	// when they end.
	MaxLiveSessions int
	// MaxPendingReports bounds the reports of ended sessions that wait to be sent. Further ones are dropped and counted.
	MaxPendingReports int
	// BackoffBase bounds the first random wait before a reconnect; it doubles with every attempt.
	BackoffBase time.Duration
	// BackoffMax bounds every such wait; with the channel's own it stays under ten seconds.
	BackoffMax time.Duration
	// ChannelBackoffMax is the longest wait of the channel itself.
	ChannelBackoffMax time.Duration
	// ConnectTimeout is how long an attempt to connect may take that nobody answers.
	ConnectTimeout time.Duration
	// RetrySlowest is the longest wait of all, and the one after a refusal that only a person can mend.
	RetrySlowest time.Duration
	// RefusedRetry is when a report that the daemon refused alone, and that must not be lost, is tried again.
	RefusedRetry time.Duration
	// KeepaliveTime is the silence after which the client pings. grpc-go takes less than 10 s as 10 s.
	KeepaliveTime time.Duration
	// KeepaliveTimeout is how long an answer to a ping may take.
	KeepaliveTimeout time.Duration
}

// DefaultLimits are those of docs/client-protocol.md.
func DefaultLimits() Limits {
	return Limits{
		BatchMaxReports:   1_000,
		BatchMaxBytes:     1 << 20,
		Linger:            time.Second,
		WindowBatches:     8,
		MaxLiveSessions:   100_000,
		MaxPendingReports: 100_000,
		BackoffBase:       250 * time.Millisecond,
		BackoffMax:        8 * time.Second,
		ChannelBackoffMax: time.Second,
		ConnectTimeout:    5 * time.Second,
		RetrySlowest:      10 * time.Second,
		RefusedRetry:      time.Minute,
		KeepaliveTime:     20 * time.Second,
		KeepaliveTimeout:  10 * time.Second,
	}
}

// check says which limit is out of range. What passes breaks no limit of the daemon.
func (l *Limits) check() error {
	for _, count := range []struct {
		name        string
		value, most int
	}{
		{"BatchMaxReports", l.BatchMaxReports, 10_000},
		{"BatchMaxBytes", l.BatchMaxBytes, 4 << 20},
		{"WindowBatches", l.WindowBatches, 1 << 20},
		{"MaxLiveSessions", l.MaxLiveSessions, 1 << 30},
		{"MaxPendingReports", l.MaxPendingReports, 1 << 30},
	} {
		if count.value < 1 || count.value > count.most {
			return fmt.Errorf("limit %s is %d; it has to be from 1 to %d", count.name, count.value, count.most)
		}
	}
	for _, wait := range []struct {
		name         string
		value, least time.Duration
	}{
		{"Linger", l.Linger, 0},
		{"BackoffBase", l.BackoffBase, time.Millisecond},
		{"BackoffMax", l.BackoffMax, time.Millisecond},
		{"ChannelBackoffMax", l.ChannelBackoffMax, time.Millisecond},
		{"ConnectTimeout", l.ConnectTimeout, time.Millisecond},
		{"RetrySlowest", l.RetrySlowest, time.Millisecond},
		{"RefusedRetry", l.RefusedRetry, time.Millisecond},
		{"KeepaliveTime", l.KeepaliveTime, time.Millisecond},
		{"KeepaliveTimeout", l.KeepaliveTimeout, time.Millisecond},
	} {
		if wait.value < wait.least {
			return fmt.Errorf("limit %s is %v; it has to be at least %v", wait.name, wait.value, wait.least)
		}
	}
	return nil
}
