package fetch

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// worth is how many times smaller deltas have to be than the bytes that are missing.
	worth = 2

	// appliedPerCore is how many bytes a second of a version one core makes by a delta, about, beside what it does for
	// bytes that come: 1.4 s for 1 GiB. It is not measured: a version that was made while the machine was busy would
	// have all that come after it fetched.
	appliedPerCore = 750e6

	// madeBetween is how many bytes a second are made of a version between, which takes one core.
	madeBetween = 1500e6

	// mostCores are as many as apply a delta.
	mostCores = 3

	// leastMeasured in bytes are received by a fetch that says how fast versions come in full.
	leastMeasured = 64 << 20
)

// A trade is what deltas save, and what they cost.
type trade struct {
	missing int64   // bytes of the version, that come in full otherwise
	speed   float64 // bytes a second in which a version came in full, or 0 if that is not known
	cores   int
}

// pays reports whether so many deltas, one after the other, of size bytes together are better than the missing bytes:
// if they are much smaller, and as far as is known, done sooner.
func (t trade) pays(size int64, deltas int) bool {
	if size > t.missing/worth {
		return false
	}
	if t.speed <= 0 {
		return true
	}
	missing := float64(t.missing)
	making := missing/(appliedPerCore*float64(min(t.cores, mostCores))) + float64(deltas-1)*missing/madeBetween
	return max(float64(size)/t.speed, making) < missing/t.speed
}

// patience is how long deltas may take to come: twice as long as the missing bytes would, and the time that a silent
// one has. It is -1 if that is not known.
func (t trade) patience() time.Duration {
	if t.speed <= 0 {
		return -1
	}
	return deltaPatience + time.Duration(2*float64(t.missing)/t.speed*float64(time.Second))
}

// A measure is how fast versions come in full. Its methods may be called from any goroutine.
type measure struct{ bits atomic.Uint64 }

// note notes how a fetch has ended.
func (m *measure) note(end Progress) {
	if came := end.Received - end.Delta; end.Rebuilt == 0 && came >= leastMeasured {
		m.bits.Store(math.Float64bits(float64(came) / max(end.Elapsed.Seconds(), 1e-3)))
	}
}

// trade is one for so many missing bytes.
func (m *measure) trade(missing int64) trade {
	return trade{missing, math.Float64frombits(m.bits.Load()), runtime.GOMAXPROCS(0)}
}
