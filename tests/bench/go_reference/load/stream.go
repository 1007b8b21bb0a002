package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
)

// raw sends bytes as they are, and reads responses.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(message any) ([]byte, error) { return message.([]byte), nil }

func (raw) Unmarshal(data []byte, message any) error {
	return proto.Unmarshal(data, message.(proto.Message))
}

// stream is one connection with one stream, as one proxy has.
type stream struct {
	traffic *traffic
	conn    *grpc.ClientConn
	stream  grpc.ClientStream
	echo    bool // each answer counts as the acknowledgement of one batch

	room   chan struct{}  // holds one for each batch that is not acknowledged
	sentAt chan time.Time // of each of them
	failed chan error

	mu       sync.Mutex // protects what follows
	taken    []sample
	rejected int
}

// sample is one acknowledged batch.
type sample struct {
	At      int64 // Unix time in ns
	Latency int64 // ns since it was sent, or should have been
}

func open(ctx context.Context, socket string, traffic *traffic, window int, echo bool) (*stream, error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	opened, err := conn.NewStream(
		ctx,
		&grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		appstatsv1.SessionReportService_StreamReports_FullMethodName,
		grpc.ForceCodec(raw{}),
	)
	if err != nil {
		return nil, err
	}
	hello := protowire.AppendTag(nil, 1, protowire.BytesType)
	hello = protowire.AppendString(hello, fmt.Sprintf("load-%016x", traffic.seed))
	if err := opened.SendMsg(hello); err != nil {
		return nil, err
	}
	if err := opened.RecvMsg(&appstatsv1.StreamReportsResponse{}); err != nil {
		return nil, err
	}
	s := &stream{
		traffic: traffic,
		conn:    conn,
		stream:  opened,
		echo:    echo,
		room:    make(chan struct{}, window),
		sentAt:  make(chan time.Time, window),
		failed:  make(chan error, 1),
	}
	go s.receive()
	return s, nil
}

// pace says when a batch is due; nil: as soon as there is room.
type pace func(batch int) time.Time

// send sends so many batches, or fewer where it is ended before; it returns once all are acknowledged, with how many there were.
func (s *stream) send(ended context.Context, batches int, due pace) (int, error) {
	sent := 0
	for ; sent < batches && ended.Err() == nil; sent++ {
		began := time.Now()
		if due != nil {
			at := due(sent)
			time.Sleep(at.Sub(began))
			began = at
		}
		if err := s.take(); err != nil {
			return sent, err
		}
		now := time.Now()
		if due == nil {
			began = now
		}
		s.sentAt <- began
		// An error of sending is told by the receiving side.
		_ = s.stream.SendMsg(s.traffic.next(now.UnixNano()))
	}
	for range cap(s.room) {
		if err := s.take(); err != nil {
			return sent, err
		}
	}
	for range cap(s.room) {
		<-s.room
	}
	return sent, nil
}

func (s *stream) take() error {
	select {
	case s.room <- struct{}{}:
		return nil
	case err := <-s.failed:
		return err
	}
}

func (s *stream) receive() {
	response := &appstatsv1.StreamReportsResponse{}
	acked := uint64(0)
	for {
		if err := s.stream.RecvMsg(response); err != nil {
			s.failed <- err
			return
		}
		now := time.Now()
		upTo := response.GetAckedSequence()
		if s.echo {
			upTo = acked + 1
		}
		s.mu.Lock()
		s.rejected += len(response.GetRejected())
		for ; acked < upTo; acked++ {
			s.taken = append(s.taken, sample{At: now.UnixNano(), Latency: int64(now.Sub(<-s.sentAt))})
			<-s.room
		}
		s.mu.Unlock()
	}
}

// samples are those since the last call.
func (s *stream) samples() ([]sample, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken, rejected := s.taken, s.rejected
	s.taken, s.rejected = nil, 0
	return taken, rejected
}
