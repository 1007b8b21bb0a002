package main

import (
	"context"
	"errors"
	"io"
	"log"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
	"github.com/appstatsd/appstatsd/tests/bench/go_reference/collect"
	"github.com/appstatsd/appstatsd/tests/bench/go_reference/store"
)

type service struct {
	appstatsv1.UnimplementedSessionReportServiceServer

	collector *collect.Collector
	store     *store.Store

	clientsMu sync.Mutex
	clients   map[string]uint64 // the last number applied, by client_id

	flushMu sync.Mutex
	backlog []collect.Row // rows that the database did not take

	backlogMu   sync.Mutex
	backlogRows int
}

func newService(collector *collect.Collector, store *store.Store) *service {
	return &service{collector: collector, store: store, clients: make(map[string]uint64)}
}

func (s *service) StreamReports(
	stream grpc.BidiStreamingServer[appstatsv1.StreamReportsRequest, appstatsv1.StreamReportsResponse],
) error {
	clientID := ""
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if clientID == "" {
			if clientID = request.GetClientId(); clientID == "" {
				return status.Error(codes.InvalidArgument, "the first message has no client_id")
			}
			if err := stream.Send(&appstatsv1.StreamReportsResponse{AckedSequence: s.acked(clientID)}); err != nil {
				return err
			}
			if request.GetSequence() == 0 {
				continue
			}
		}
		rejected, err := s.apply(clientID, request)
		if err != nil {
			return err
		}
		response := &appstatsv1.StreamReportsResponse{AckedSequence: s.acked(clientID), Rejected: rejected}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func (s *service) acked(clientID string) uint64 {
	s.clientsMu.Lock()
	defer s.clientsMu.Unlock()
	return s.clients[clientID]
}

func (s *service) apply(
	clientID string, request *appstatsv1.StreamReportsRequest,
) ([]*appstatsv1.RejectedReport, error) {
	if request.GetSequence() <= s.acked(clientID) {
		return nil, nil
	}
	reports, rejected, err := read(request)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	for _, place := range s.collector.Collect(reports) {
		rejected = append(rejected, &appstatsv1.RejectedReport{
			Sequence: request.GetSequence(),
			Index:    uint32(place),
			Reason:   appstatsv1.RejectionReason_REJECTION_REASON_CONFLICT,
			Message:  "the session is known with another app or start",
		})
	}
	s.clientsMu.Lock()
	defer s.clientsMu.Unlock()
	s.clients[clientID] = request.GetSequence()
	return rejected, nil
}

func (s *service) Flush(ctx context.Context, request *appstatsv1.FlushRequest) (*appstatsv1.FlushResponse, error) {
	now := time.Now()
	if request.GetAsOfUnixNano() != 0 {
		now = time.Unix(0, int64(request.GetAsOfUnixNano()))
	}
	written, err := s.flush(ctx, now.UTC())
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &appstatsv1.FlushResponse{RowsWritten: uint64(written)}, nil
}

func (s *service) flush(ctx context.Context, now time.Time) (int, error) {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	s.backlog = append(s.backlog, s.collector.Flush(now)...)
	s.noteBacklog(len(s.backlog))
	written, err := s.store.Write(ctx, s.backlog)
	s.backlog = s.backlog[written:]
	if len(s.backlog) == 0 {
		s.backlog = nil
	}
	s.noteBacklog(len(s.backlog))
	return written, err
}

func (s *service) noteBacklog(rows int) {
	s.backlogMu.Lock()
	defer s.backlogMu.Unlock()
	s.backlogRows = rows
}

func (s *service) flushEvery(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if _, err := s.flush(ctx, now.UTC()); err != nil {
				log.Print("flush: ", err)
			}
		}
	}
}

func (s *service) GetStatus(context.Context, *appstatsv1.GetStatusRequest) (*appstatsv1.GetStatusResponse, error) {
	sessions, groups := s.collector.Held()
	s.backlogMu.Lock()
	defer s.backlogMu.Unlock()
	return &appstatsv1.GetStatusResponse{
		LiveSessions: uint64(sessions),
		Groups:       uint64(groups),
		BacklogRows:  uint64(s.backlogRows),
	}, nil
}
