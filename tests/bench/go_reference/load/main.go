// Command load drives a server of StreamReports over a unix socket, and prints as JSON how it did.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// result is what is printed, on one line.
type result struct {
	Reports          int     `json:"reports"`
	Batches          int     `json:"batches"`
	Rejected         int     `json:"rejected"`
	Seconds          float64 `json:"seconds"`
	ReportsPerSecond float64 `json:"reports_per_second"`
	ServerCPUSeconds float64 `json:"server_cpu_seconds"`
	ServerCPUMicros  float64 `json:"server_cpu_us_per_report"`
	ClientCPUMicros  float64 `json:"client_cpu_us_per_report"`
	P50              float64 `json:"p50_ms"`
	P99              float64 `json:"p99_ms"`
	P999             float64 `json:"p999_ms"`
	Sessions         uint64  `json:"sessions"`
}

type options struct {
	shape
	socket    string
	streams   int
	total     int
	rate      float64
	window    int
	seconds   float64
	pid       int
	echo      bool
	seed      uint64
	latencies string
	hold      bool
	closed    bool
}

func main() {
	o := options{}
	flag.StringVar(&o.socket, "socket", "", "path of the server's unix socket")
	flag.IntVar(&o.streams, "streams", 8, "streams, each on a connection of its own")
	flag.IntVar(&o.batch, "batch", 1000, "reports a batch")
	flag.IntVar(&o.total, "reports", 100_000, "reports in all, after those that begin the held sessions")
	flag.IntVar(&o.held, "held", 1000, "live sessions of each stream; at least a batch")
	flag.BoolVar(&o.live, "live", false, "all reports are of new sessions that stay live")
	flag.IntVar(&o.apps, "apps", 100, "apps of each stream; 0: each session has its own")
	flag.DurationVar(&o.age, "age", 0, "how long before its first report a session began")
	flag.Float64Var(&o.long, "long", 0, "part of the sessions that began two minutes earlier")
	flag.BoolVar(&o.reports, "as-reports", false, "send reports instead of columns")
	flag.Float64Var(&o.rate, "rate", 0, "reports a second offered, whatever the server does; 0: as fast as the window allows")
	flag.IntVar(&o.window, "window", 8, "batches of a stream that may be unacknowledged")
	flag.Float64Var(&o.seconds, "seconds", 60, "stop sending after so many seconds")
	flag.IntVar(&o.pid, "pid", 0, "process id of the server, whose CPU time is read")
	flag.BoolVar(&o.echo, "echo", false, "each answer acknowledges one batch, whatever it says")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "what ids are made from")
	flag.StringVar(&o.latencies, "latencies", "", "file for pairs of int64: Unix time in ns, latency in ns")
	flag.BoolVar(&o.hold, "hold", false, "keep the streams open until standard input ends")
	flag.BoolVar(&o.closed, "until-closed", false, "stop sending when standard input ends")
	flag.Parse()
	if err := run(o); err != nil {
		log.Fatal(err)
	}
}

func run(o options) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	streams := make([]*stream, o.streams)
	for number := range streams {
		var err error
		traffic := newTraffic(o.shape, mix(o.seed+uint64(number)))
		if streams[number], err = open(ctx, o.socket, traffic, o.window, o.echo); err != nil {
			return err
		}
	}
	const patience = 30 * time.Second
	allowed := time.Duration(o.seconds * float64(time.Second))
	givingUp := time.AfterFunc(allowed+patience, func() { log.Fatal("not everything was acknowledged in time") })
	ended, end := context.WithTimeout(ctx, allowed)
	defer end()
	if !o.live {
		if _, err := sendAll(ended, streams, (o.held+o.batch-1)/o.batch, 0); err != nil {
			return err
		}
	}
	for _, s := range streams {
		s.samples()
	}

	interval := time.Duration(0)
	if o.rate > 0 {
		interval = time.Duration(float64(o.batch) / o.rate * float64(time.Second))
	}
	if o.closed {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			end()
		}()
	}
	server, client, began := processCPU(o.pid), processCPU(os.Getpid()), time.Now()
	batches, err := sendAll(ended, streams, max(1, o.total/o.batch/o.streams), interval)
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	givingUp.Stop()
	server, client = processCPU(o.pid)-server, processCPU(os.Getpid())-client

	var samples []sample
	r := result{Batches: batches, Reports: batches * o.batch, Seconds: took, ServerCPUSeconds: server}
	for _, s := range streams {
		taken, rejected := s.samples()
		samples = append(samples, taken...)
		r.Rejected += rejected
		r.Sessions += s.traffic.begun
	}
	if o.latencies != "" {
		if err := write(o.latencies, samples); err != nil {
			return err
		}
	}
	r.ReportsPerSecond = float64(r.Reports) / took
	r.ServerCPUMicros = server / float64(r.Reports) * 1e6
	r.ClientCPUMicros = client / float64(r.Reports) * 1e6
	slices.SortFunc(samples, func(a, b sample) int { return int(a.Latency - b.Latency) })
	part := func(share float64) float64 {
		return float64(samples[min(len(samples)-1, int(share*float64(len(samples))))].Latency) / 1e6
	}
	r.P50, r.P99, r.P999 = part(0.5), part(0.99), part(0.999)
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	if o.hold {
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
	}
	return nil
}

// sendAll sends so many batches on each stream; with an interval, one is due on one of the streams each time it has passed.
func sendAll(
	ended context.Context, streams []*stream, batches int, interval time.Duration,
) (int, error) {
	type outcome struct {
		sent int
		err  error
	}
	outcomes := make(chan outcome)
	began := time.Now()
	for number, s := range streams {
		var due pace
		if interval > 0 {
			due = func(batch int) time.Time {
				return began.Add(time.Duration(batch*len(streams)+number) * interval)
			}
		}
		go func() {
			sent, err := s.send(ended, batches, due)
			outcomes <- outcome{sent, err}
		}()
	}
	total := 0
	var failure error
	for range streams {
		each := <-outcomes
		total += each.sent
		if each.err != nil {
			failure = each.err
		}
	}
	return total, failure
}

// processCPU is what a process has used so far, in seconds, by the kernel's clock of that process.
func processCPU(pid int) float64 {
	if pid == 0 {
		return 0
	}
	const scheduler = 2
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &used); err != nil {
		log.Fatal(fmt.Errorf("the CPU clock of process %d: %w", pid, err))
	}
	return float64(used.Nano()) / 1e9
}

func write(path string, samples []sample) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	for _, each := range samples {
		if err := binary.Write(out, binary.LittleEndian, each); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return file.Close()
}
