// Package trip says how long the way of a connection is, as the kernel has measured it. It refuses to know what is
// sent on it.
package trip

import "time"

// Long is the least round trip of a long way: one within a building takes a millisecond, and one across a continent
// some 50. On a shorter one a request costs next to nothing, and each congestion control recovers from a loss in time.
const Long = 20 * time.Millisecond
