// Command flush times the plain collector's flush, in its own process, and prints JSON.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"log"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/appstatsd/appstatsd/tests/bench/go_reference/collect"
)

const window = time.Minute

// taken is how many milliseconds each flush took.
type taken struct {
	LiveShort  []float64 `json:"all live and short"`
	LiveLong   []float64 `json:"all live and long"`
	Settled    []float64 `json:"all settled"`
	OnePercent []float64 `json:"1 % changed"`
	AllChanged []float64 `json:"all changed"`
}

func main() {
	held := flag.Int("held", 1000, "sessions, ten to an app")
	runs := flag.Int("runs", 5, "how often")
	flag.Parse()
	var all taken
	measure(*held, *runs, &all)
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		log.Fatal(err)
	}
}

func measure(held, runs int, all *taken) {
	now := time.Now().UTC()
	reports := live(held, now.Add(-10*time.Second))
	c := collect.New(window)
	c.Collect(reports)
	c.Flush(now)
	few := (held + 99) / 100
	for run := range runs {
		all.LiveShort = append(all.LiveShort, timed(c, now))
		c.Collect(ended(reports[run*few:(run+1)*few], now))
		all.OnePercent = append(all.OnePercent, timed(c, now))
	}
	for run := range runs {
		all.LiveLong = append(all.LiveLong, timed(c, now.Add(2*window+time.Duration(run)*30*time.Second)))
	}
	for range runs {
		c = collect.New(window)
		c.Collect(reports)
		c.Collect(ended(reports, now))
		all.AllChanged = append(all.AllChanged, timed(c, now))
		all.Settled = append(all.Settled, timed(c, now))
	}
}

func ended(reports []collect.Report, at time.Time) []collect.Report {
	changed := slices.Clone(reports)
	for place := range changed {
		changed[place].EndedAt = at
	}
	return changed
}

func timed(c *collect.Collector, now time.Time) float64 {
	runtime.GC()
	began := time.Now()
	c.Flush(now)
	return float64(time.Since(began).Nanoseconds()) / 1e6
}

func live(count int, started time.Time) []collect.Report {
	reports := make([]collect.Report, count)
	var app collect.App
	for place := range reports {
		if place%10 == 0 {
			app = collect.App{
				UserID: id(), WorkspaceID: id(), AgentID: id(), AccessMethod: "path", SlugOrPort: "app",
			}
		}
		reports[place] = collect.Report{App: app, SessionID: id(), StartedAt: started, Requests: 1}
	}
	return reports
}

func id() (made uuid.UUID) {
	binary.LittleEndian.PutUint64(made[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(made[8:], rand.Uint64())
	return made
}
