package appstatsd

import "time"

// Clock is a wall clock and a monotonic clock. Starts come from the wall clock, everything that passes from the monotonic
// one, so a step of the wall clock makes no session negative or days long.
type Clock struct {
	// Wall says nanoseconds since the Unix epoch, UTC.
	Wall func() int64
	// Monotonic says nanoseconds that never run backwards.
	Monotonic func() int64
}

var processStart = time.Now()

// SystemClock is the clock of the machine.
func SystemClock() Clock {
	return Clock{
		Wall:      func() int64 { return time.Now().UnixNano() },
		Monotonic: func() int64 { return int64(time.Since(processStart)) },
	}
}
