package appstatsd

import (
	"bytes"
	"fmt"

	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
	"google.golang.org/protobuf/proto"
)

// modelDaemon is what a daemon makes of what clients send: the sequence rules of the wire and the merge of reports. Whatever
// breaks a rule of the wire is a panic, and so fails the test.
type modelDaemon struct {
	clients  map[string]*knownClient
	sessions map[[16]byte]*held
	closed   map[string]bool
	dropped  uint64
	batches  int
}

type knownClient struct {
	last     uint64
	contents map[uint64][]byte
}

type held struct {
	app        string
	startedNS  uint64
	endedNS    uint64
	requests   uint32
	timesHeard int
}

func newModelDaemon() *modelDaemon {
	return &modelDaemon{clients: map[string]*knownClient{}, sessions: map[[16]byte]*held{}, closed: map[string]bool{}}
}

func must(is bool, format string, values ...any) {
	if !is {
		panic(fmt.Sprintf(format, values...))
	}
}

// first is the first message of a stream; returns the number held.
func (d *modelDaemon) first(message *appstatsv1.StreamReportsRequest) uint64 {
	must(message.ClientId != "" && message.Sequence == 0 && message.Columns == nil, "a wrong first message: %v", message)
	d.dropped = message.DroppedReports
	if known := d.clients[message.ClientId]; known != nil {
		return known.last
	}
	return 0
}

// batch is a batch; returns the number to acknowledge.
func (d *modelDaemon) batch(clientID string, message *appstatsv1.StreamReportsRequest) uint64 {
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(message.Columns)
	must(err == nil && len(content) <= 4<<20, "a batch of %d bytes", len(content))
	columns := message.Columns
	count := len(columns.App)
	must(message.Sequence > 0 && !message.Closing && 1 <= count && count <= 10_000, "a wrong batch: %v", message)
	must(count == len(columns.Requests) && count == len(columns.SessionStartedAtUnixNano) &&
		count == len(columns.SessionEndedAtUnixNano) && 16*count == len(columns.SessionIds), "columns of different lengths")
	d.dropped = message.DroppedReports
	known := d.clients[clientID]
	if known == nil {
		known = &knownClient{message.Sequence - 1, map[uint64][]byte{}}
		d.clients[clientID] = known
	}
	if message.Sequence <= known.last {
		must(bytes.Equal(known.contents[message.Sequence], content), "number %d again, with other content", message.Sequence)
		return known.last
	}
	must(message.Sequence == known.last+1, "gap: %d after %d", message.Sequence, known.last)
	known.last = message.Sequence
	known.contents[message.Sequence] = content
	d.batches++
	for i, place := range columns.App {
		d.merge([16]byte(columns.SessionIds[16*i:16*i+16]), columns.Apps[place].String(), columns, i)
	}
	return known.last
}

func (d *modelDaemon) merge(id [16]byte, app string, columns *appstatsv1.SessionReportColumns, i int) {
	known := d.sessions[id]
	if known == nil {
		known = &held{app: app, startedNS: columns.SessionStartedAtUnixNano[i]}
		d.sessions[id] = known
	}
	must(known.startedNS == columns.SessionStartedAtUnixNano[i], "another start")
	known.endedNS = max(known.endedNS, columns.SessionEndedAtUnixNano[i])
	known.requests = max(known.requests, columns.Requests[i])
	known.timesHeard++
}
