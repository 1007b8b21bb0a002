package appstatsd

import (
	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
)

// batch is some reports that were put together under a number and wait for its acknowledgement.
//
// Invariant: its content never changes after it was cut, whatever happens to its sessions; only its number does, and only
// when it is sent under another client_id.
type batch struct {
	number uint64
	// reports are those whose state it holds, in the order of its columns.
	reports []*report
	// ends are those whose end is in it; the others may have ended since.
	ends    []*report
	columns *appstatsv1.SessionReportColumns
}

func newBatch(number uint64, reports []*report) *batch {
	b := &batch{number: number, reports: reports, columns: columnsOf(reports)}
	for _, r := range reports {
		if r.endedNS != 0 {
			b.ends = append(b.ends, r)
		}
	}
	return b
}

// message is what carries it.
func (b *batch) message(dropped uint64) *appstatsv1.StreamReportsRequest {
	return &appstatsv1.StreamReportsRequest{Sequence: b.number, Columns: b.columns, DroppedReports: dropped}
}

// columnsOf gives the reports as columns, each distinct app once.
func columnsOf(reports []*report) *appstatsv1.SessionReportColumns {
	columns := &appstatsv1.SessionReportColumns{
		App:                      make([]uint32, 0, len(reports)),
		SessionIds:               make([]byte, 0, 16*len(reports)),
		SessionStartedAtUnixNano: make([]uint64, 0, len(reports)),
		SessionEndedAtUnixNano:   make([]uint64, 0, len(reports)),
		Requests:                 make([]uint32, 0, len(reports)),
	}
	places := make(map[App]uint32)
	for _, r := range reports {
		at, there := places[r.app]
		if !there {
			at = uint32(len(places))
			places[r.app] = at
			columns.Apps = append(columns.Apps, wireApp(r.app))
		}
		columns.App = append(columns.App, at)
		columns.SessionIds = append(columns.SessionIds, r.sessionID[:]...)
		columns.SessionStartedAtUnixNano = append(columns.SessionStartedAtUnixNano, uint64(r.startedNS))
		columns.SessionEndedAtUnixNano = append(columns.SessionEndedAtUnixNano, uint64(r.endedNS))
		columns.Requests = append(columns.Requests, r.requests)
	}
	return columns
}

func wireApp(app App) *appstatsv1.App {
	return &appstatsv1.App{
		UserId:       app.userID[:],
		WorkspaceId:  app.workspaceID[:],
		AgentId:      app.agentID[:],
		AccessMethod: appstatsv1.AccessMethod(app.accessMethod),
		SlugOrPort:   app.slugOrPort,
	}
}
