package main

import (
	"context"
	"os/exec"
	"strconv"
	"strings"

	"github.com/shardcast/shardcast/scripts/internal/machine"
)

// shm is a directory in memory.
const shm = "/dev/shm"

// room is the number of free bytes in a directory, which for one in memory is at most the
// free memory. It is 0 where the system has no figure.
func room(ctx context.Context, dir string) int64 {
	out, err := exec.CommandContext(ctx, "df", "-B1", "--output=avail", dir).Output()
	if err != nil {
		return 0
	}
	_, text, _ := strings.Cut(string(out), "\n")
	free, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0
	}
	if machine.FileSystem(dir) == "tmpfs" {
		number, _, _ := strings.Cut(machine.Field("/proc/meminfo", "MemAvailable"), " ")
		memory, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0
		}
		free = min(free, memory*1024)
	}
	return free
}

// ticks are the processors' time.
type ticks struct{ idle, all float64 }

// processor is the processors' time since the start of the machine.
func processor() (t ticks) {
	line, _, _ := strings.Cut(machine.Contents("/proc/stat"), "\n")
	for i, text := range strings.Fields(line) {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || i > 8 { // the name; the time of users includes that of guests
			continue
		}
		t.all += n
		if i == 4 || i == 5 { // idle, also while waiting for a disk
			t.idle += n
		}
	}
	return t
}

// idleSince is the idle share of the time since then.
func (t ticks) idleSince(then ticks) float64 {
	if t.all == then.all {
		return 0
	}
	return (t.idle - then.idle) / (t.all - then.all)
}
