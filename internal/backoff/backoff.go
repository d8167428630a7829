// Package backoff computes how long to wait before the next attempt. It knows neither
// the attempts nor the clock.
package backoff

import (
	"math/rand/v2"
	"time"
)

// A Doubling is a wait that doubles with each failure in a row. The zero value waits
// for no time. It is a small value: a copy goes on by itself, and its owner guards it
// against concurrent use.
type Doubling struct {
	// First is the wait after the first failure.
	First time.Duration

	// Most bounds the waits; one below First counts as First.
	Most time.Duration

	failures int
}

// Next counts a failure, and returns the wait after it, with [Jitter].
func (d *Doubling) Next() time.Duration {
	wait := d.First
	// Comparing with the half leaves no way for the product to overflow.
	for range d.failures {
		if wait > d.Most/2 {
			wait = max(d.First, d.Most)
			break
		}
		wait *= 2
	}
	d.failures++
	return Jitter(wait)
}

// Failures returns how often Next was called since the last Reset.
func (d *Doubling) Failures() int { return d.failures }

// Reset is called after a success: the next wait is First again.
func (d *Doubling) Reset() { d.failures = 0 }

// Jitter returns wait, made up to a quarter shorter or longer, so that nodes that
// failed in the same instant do not come back in the same instant.
func Jitter(wait time.Duration) time.Duration {
	return time.Duration(float64(wait) * (0.75 + rand.Float64()/2))
}
