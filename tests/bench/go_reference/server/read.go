package main

import (
	"errors"
	"math"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
	"github.com/appstatsd/appstatsd/tests/bench/go_reference/collect"
)

var accessMethods = map[appstatsv1.AccessMethod]string{
	appstatsv1.AccessMethod_ACCESS_METHOD_PATH:      "path",
	appstatsv1.AccessMethod_ACCESS_METHOD_SUBDOMAIN: "subdomain",
	appstatsv1.AccessMethod_ACCESS_METHOD_TERMINAL:  "terminal",
}

var earliestStart = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// app is what App and SessionReport have in common.
type app interface {
	GetUserId() []byte
	GetWorkspaceId() []byte
	GetAgentId() []byte
	GetAccessMethod() appstatsv1.AccessMethod
	GetSlugOrPort() string
}

// read turns a batch into reports; those that are not valid are listed instead.
func read(request *appstatsv1.StreamReportsRequest) ([]collect.Report, []*appstatsv1.RejectedReport, error) {
	columns := request.GetColumns()
	count := len(request.GetReports()) + len(columns.GetApp())
	reports := make([]collect.Report, 0, count)
	var rejected []*appstatsv1.RejectedReport
	add := func(
		place int, app collect.App, reason appstatsv1.RejectionReason, id []byte, started, ended uint64, requests uint32,
	) {
		report := collect.Report{App: app, Requests: int32(min(requests, math.MaxInt32))}
		if reason == 0 {
			reason = fill(&report, id, started, ended)
		}
		if reason != 0 {
			rejected = append(rejected, &appstatsv1.RejectedReport{
				Sequence: request.GetSequence(),
				Index:    uint32(place),
				Reason:   reason,
				Message:  "the report is not valid",
			})
			return
		}
		reports = append(reports, report)
	}
	for place, report := range request.GetReports() {
		app, reason := readApp(report)
		add(place, app, reason, report.GetSessionId(), report.GetSessionStartedAtUnixNano(),
			report.GetSessionEndedAtUnixNano(), report.GetRequests())
	}
	if columns == nil {
		return reports, rejected, nil
	}
	ids, started, ended, requests := columns.GetSessionIds(), columns.GetSessionStartedAtUnixNano(),
		columns.GetSessionEndedAtUnixNano(), columns.GetRequests()
	length := len(columns.GetApp())
	if len(ids) != 16*length || len(started) != length || len(ended) != length || len(requests) != length {
		return nil, nil, errors.New("the columns are not of one length")
	}
	apps := make([]collect.App, len(columns.GetApps()))
	reasons := make([]appstatsv1.RejectionReason, len(apps))
	for place, app := range columns.GetApps() {
		apps[place], reasons[place] = readApp(app)
	}
	for row, place := range columns.GetApp() {
		if int(place) >= len(apps) {
			return nil, nil, errors.New("an app is no place in apps")
		}
		add(len(request.GetReports())+row, apps[place], reasons[place], ids[16*row:16*row+16], started[row], ended[row],
			requests[row])
	}
	return reports, rejected, nil
}

func readApp(from app) (collect.App, appstatsv1.RejectionReason) {
	userID, ok1 := readID(from.GetUserId())
	workspaceID, ok2 := readID(from.GetWorkspaceId())
	agentID, ok3 := readID(from.GetAgentId())
	if !ok1 || !ok2 || !ok3 {
		return collect.App{}, appstatsv1.RejectionReason_REJECTION_REASON_INVALID_ID
	}
	method, ok := accessMethods[from.GetAccessMethod()]
	if !ok {
		return collect.App{}, appstatsv1.RejectionReason_REJECTION_REASON_INVALID_ACCESS_METHOD
	}
	slug := from.GetSlugOrPort()
	if utf8.RuneCountInString(slug) > 256 || slug == "" && method != "terminal" {
		return collect.App{}, appstatsv1.RejectionReason_REJECTION_REASON_INVALID_SLUG_OR_PORT
	}
	return collect.App{
		UserID: userID, WorkspaceID: workspaceID, AgentID: agentID, AccessMethod: method, SlugOrPort: slug,
	}, 0
}

func fill(report *collect.Report, id []byte, started, ended uint64) appstatsv1.RejectionReason {
	sessionID, ok := readID(id)
	if !ok {
		return appstatsv1.RejectionReason_REJECTION_REASON_INVALID_ID
	}
	report.SessionID = sessionID
	report.StartedAt = time.Unix(0, int64(started)).UTC().Truncate(time.Microsecond)
	if report.StartedAt.Before(earliestStart) {
		return appstatsv1.RejectionReason_REJECTION_REASON_INVALID_TIME
	}
	if ended != 0 {
		report.EndedAt = time.Unix(0, int64(ended)).UTC().Truncate(time.Microsecond)
		if report.EndedAt.Before(report.StartedAt) {
			return appstatsv1.RejectionReason_REJECTION_REASON_INVALID_TIME
		}
	}
	return 0
}

func readID(bytes []byte) (uuid.UUID, bool) {
	id, err := uuid.FromBytes(bytes)
	return id, err == nil && id != uuid.Nil
}
