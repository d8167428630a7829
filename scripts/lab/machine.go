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

// room is how many bytes are free in a directory, which for one in memory is no more
// than is free of that. It is 0 if the system does not say.
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

// ticks is what the processors have spent their time on.
type ticks struct{ idle, all float64 }

// processor is what they have since the start of the machine.
func processor() (t ticks) {
	line, _, _ := strings.Cut(machine.Contents("/proc/stat"), "\n")
	for i, text := range strings.Fields(line) {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || i > 8 { // the name; guests are in what users have already
			continue
		}
		t.all += n
		if i == 4 || i == 5 { // idle, also while a disk is waited for
			t.idle += n
		}
	}
	return t
}

// idleSince is which share of the time since then was idle.
func (t ticks) idleSince(then ticks) float64 {
	if t.all == then.all {
		return 0
	}
	return (t.idle - then.idle) / (t.all - then.all)
}
