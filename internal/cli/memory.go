package cli

import (
	"os"
	"runtime/debug"
)

// heapLimit in bytes is what the memory of a command's Go runtime may grow to before it collects
// garbage more often than usual: with the program itself that stays below 64 MiB. Versions of
// 100,000 files come near it.
const heapLimit = 38 << 20

// LimitMemory has the runtime keep to 64 MiB resident, for a command whose memory does not grow with
// the number of its readers, unless GOMEMLIMIT says otherwise.
func LimitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapLimit)
	}
}
