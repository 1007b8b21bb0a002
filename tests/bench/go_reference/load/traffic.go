package main

import (
	"encoding/binary"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// shape says what all streams report. First, on each, so many sessions begin as are held. Then, as from a proxy in steady
// use, of 20 reports 9 are of new sessions, 9 end the one held longest, and 2 are of a held one whose count has risen. The
// reports of one session are in different batches, since a client keeps one pending report a session. With live, all reports
// are of new sessions, which stay live.
type shape struct {
	batch   int
	held    int
	live    bool
	apps    int           // each stream's sessions are spread over so many apps; 0: each session has its own
	age     time.Duration // how long before its first report a session began
	long    float64       // the part of the sessions that began two minutes earlier still
	reports bool          // send `reports` instead of `columns`
}

// traffic makes the batches of one stream.
type traffic struct {
	shape
	seed   uint64
	onWire [][]byte // the apps on the wire, where they are few

	sequence uint64
	begun    uint64 // sessions so far
	steps    int    // reports so far, beside those that filled held
	queue    []session
	head     int
	count    int

	picked  []session
	places  map[uint64]int // of an app in the batch
	names   []uint64       // the apps of the batch
	columns []byte
	part    []byte
}

type session struct {
	number    uint64
	startedAt int64
	endedAt   int64
	requests  uint64
}

func newTraffic(shape shape, seed uint64) *traffic {
	t := &traffic{shape: shape, seed: seed, places: make(map[uint64]int), queue: make([]session, shape.held+1)}
	for app := range uint64(shape.apps) {
		t.onWire = append(t.onWire, t.appendApp(nil, app))
	}
	return t
}

// warm says whether so many sessions are held as shall be.
func (t *traffic) warm() bool {
	return t.live || t.count >= t.held
}

// next makes the next message.
func (t *traffic) next(now int64) []byte {
	t.picked = t.picked[:0]
	for range t.batch {
		t.picked = append(t.picked, t.pick(now))
	}
	t.sequence++
	size := 80 * t.batch
	if t.reports || t.apps == 0 {
		size = 200 * t.batch
	}
	message := make([]byte, 0, size+100)
	message = protowire.AppendTag(message, 2, protowire.VarintType)
	message = protowire.AppendVarint(message, t.sequence)
	if t.reports {
		return t.appendReports(message)
	}
	t.encodeColumns()
	message = protowire.AppendTag(message, 4, protowire.BytesType)
	return protowire.AppendBytes(message, t.columns)
}

func (t *traffic) pick(now int64) session {
	if !t.warm() || t.live {
		return t.begin(now)
	}
	step := t.steps % 20
	t.steps++
	switch {
	case step == 8 || step == 19:
		known := &t.queue[(t.head+t.count/4)%len(t.queue)]
		known.requests++
		return *known
	case step%2 == 0:
		return t.begin(now)
	default:
		ended := t.queue[t.head]
		t.head = (t.head + 1) % len(t.queue)
		t.count--
		ended.endedAt = now
		return ended
	}
}

func (t *traffic) begin(now int64) session {
	begun := session{number: t.begun, startedAt: now - int64(t.age), requests: 1}
	if float64(mix(t.seed^begun.number)>>11)/(1<<53) < t.long {
		begun.startedAt -= int64(2 * time.Minute)
	}
	t.begun++
	if !t.live {
		t.queue[(t.head+t.count)%len(t.queue)] = begun
		t.count++
	}
	return begun
}

func (t *traffic) app(number uint64) uint64 {
	if t.apps == 0 {
		return number
	}
	return mix(t.seed+number) % uint64(t.apps)
}

func (t *traffic) encodeColumns() {
	clear(t.places)
	t.names = t.names[:0]
	b := t.columns[:0]
	t.part = t.part[:0]
	for _, s := range t.picked {
		app := t.app(s.number)
		place, ok := t.places[app]
		if !ok {
			place = len(t.names)
			t.places[app] = place
			t.names = append(t.names, app)
			b = protowire.AppendTag(b, 1, protowire.BytesType)
			if t.apps == 0 {
				b = protowire.AppendBytes(b, t.appendApp(nil, app))
			} else {
				b = protowire.AppendBytes(b, t.onWire[app])
			}
		}
		t.part = protowire.AppendVarint(t.part, uint64(place))
	}
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendBytes(b, t.part)
	b = protowire.AppendTag(b, 3, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(16*len(t.picked)))
	for _, s := range t.picked {
		b = t.appendID(b, s.number)
	}
	b = protowire.AppendTag(b, 4, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(8*len(t.picked)))
	for _, s := range t.picked {
		b = protowire.AppendFixed64(b, uint64(s.startedAt))
	}
	b = protowire.AppendTag(b, 5, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(8*len(t.picked)))
	for _, s := range t.picked {
		b = protowire.AppendFixed64(b, uint64(s.endedAt))
	}
	t.part = t.part[:0]
	for _, s := range t.picked {
		t.part = protowire.AppendVarint(t.part, s.requests)
	}
	b = protowire.AppendTag(b, 6, protowire.BytesType)
	t.columns = protowire.AppendBytes(b, t.part)
}

func (t *traffic) appendReports(message []byte) []byte {
	for _, s := range t.picked {
		b := t.part[:0]
		if t.apps == 0 {
			b = t.appendApp(b, s.number)
		} else {
			b = append(b, t.onWire[t.app(s.number)]...)
		}
		b = protowire.AppendTag(b, 6, protowire.BytesType)
		b = append(b, 16)
		b = t.appendID(b, s.number)
		b = protowire.AppendTag(b, 7, protowire.Fixed64Type)
		b = protowire.AppendFixed64(b, uint64(s.startedAt))
		if s.endedAt != 0 {
			b = protowire.AppendTag(b, 8, protowire.Fixed64Type)
			b = protowire.AppendFixed64(b, uint64(s.endedAt))
		}
		b = protowire.AppendTag(b, 9, protowire.VarintType)
		b = protowire.AppendVarint(b, s.requests)
		t.part = b
		message = protowire.AppendTag(message, 3, protowire.BytesType)
		message = protowire.AppendBytes(message, b)
	}
	return message
}

// appendApp appends the fields 1 to 5, which App and SessionReport have in common.
func (t *traffic) appendApp(b []byte, app uint64) []byte {
	for field := range protowire.Number(3) {
		b = protowire.AppendTag(b, field+1, protowire.BytesType)
		b = append(b, 16)
		b = t.appendID(b, 1<<63|app<<2|uint64(field))
	}
	b = protowire.AppendTag(b, 4, protowire.VarintType)
	b = protowire.AppendVarint(b, 1+app%3)
	b = protowire.AppendTag(b, 5, protowire.BytesType)
	return protowire.AppendString(b, fmt.Sprint("app-", app))
}

// appendID appends 16 bytes that are as good as random, the same for the same number.
func (t *traffic) appendID(b []byte, number uint64) []byte {
	high := mix(t.seed + number)
	b = binary.BigEndian.AppendUint64(b, high)
	return binary.BigEndian.AppendUint64(b, mix(high^t.seed))
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
