// Command server is the plain collector that appstatsd is measured against: grpc-go, one mutex, two maps, pgx.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"

	appstatsv1 "github.com/appstatsd/appstatsd/clients/go/appstats/v1"
	"github.com/appstatsd/appstatsd/tests/bench/go_reference/collect"
	"github.com/appstatsd/appstatsd/tests/bench/go_reference/store"
)

func main() {
	socket := flag.String("listen", "", "path of the unix socket")
	databaseURL := flag.String("database-url", "", "where rows go")
	interval := flag.Duration("report-interval", 30*time.Second, "time between two flushes")
	window := flag.Duration("rollup-window", time.Minute, "sessions up to this long are rolled up")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *socket, *databaseURL, *interval, *window); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, socket, databaseURL string, interval, window time.Duration) error {
	rows, err := store.Open(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer rows.Close()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	service := newService(collect.New(window), rows)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(8 << 20))
	appstatsv1.RegisterSessionReportServiceServer(server, service)
	go service.flushEvery(ctx, interval)
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	fmt.Println("ready", socket)
	return server.Serve(listener)
}
