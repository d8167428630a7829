package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// shm is a directory in memory.
const shm = "/dev/shm"

// A file is one of random bytes.
type file struct {
	name   string
	size   byteCount
	digest string
}

// makeFile makes one.
func makeFile(ctx context.Context, name string, size byteCount, seed uint64) (f file, err error) {
	f = file{name: name, size: size}
	out, err := os.Create(name)
	if err != nil {
		return f, err
	}
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	h, random := sha256.New(), rand.NewChaCha8(key)
	for rest := int64(size); rest > 0 && err == nil && ctx.Err() == nil; rest -= 1 << 26 {
		_, err = io.CopyN(io.MultiWriter(out, h), random, min(rest, 1<<26))
	}
	f.digest = fmt.Sprintf("%x", h.Sum(nil))
	return f, errors.Join(err, context.Cause(ctx), out.Sync(), out.Close())
}

// digestOf is the digest of a file.
func digestOf(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

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
	if fileSystem(dir) == "tmpfs" {
		number, _, _ := strings.Cut(field("/proc/meminfo", "MemAvailable"), " ")
		memory, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0
		}
		free = min(free, memory*1024)
	}
	return free
}

// A Machine is where a report was made.
type Machine struct {
	CPU        string   `json:"cpu"`
	Cores      int      `json:"cores"`
	Memory     string   `json:"memory"`
	Kernel     string   `json:"kernel"`
	FileSystem string   `json:"file_system"`
	Load       string   `json:"load_before"` // of one, five and fifteen minutes
	Tools      []string `json:"tools"`
}

// machine is this one.
func (l *lab) machine(ctx context.Context) Machine {
	m := Machine{
		CPU:        field("/proc/cpuinfo", "model name"),
		Cores:      runtime.NumCPU(),
		Memory:     field("/proc/meminfo", "MemTotal"),
		Kernel:     contents("/proc/sys/kernel/osrelease"),
		FileSystem: l.fileSystem,
	}
	if load := strings.Fields(contents("/proc/loadavg")); len(load) > 2 {
		m.Load = strings.Join(load[:3], " ")
	}
	for _, tool := range [][]string{
		{l.command("origin"), "version"},
		{"git", "describe", "--always", "--dirty"},
		{program("nginx"), "-v"},
		{"aria2c", "--version"},
		{"ip", "-V"},
	} {
		if out, err := exec.CommandContext(ctx, tool[0], tool[1:]...).CombinedOutput(); err == nil {
			line, _, _ := strings.Cut(string(out), "\n")
			if tool[0] == "git" {
				line = "commit " + line
			}
			m.Tools = append(m.Tools, strings.TrimSpace(line))
		}
	}
	return m
}

// String is a paragraph.
func (m Machine) String() string {
	return fmt.Sprintf("%d cores, %s, %s of memory, Linux %s, files on %s. Load before: %s.\n%s.\n",
		m.Cores, m.CPU, m.Memory, m.Kernel, m.FileSystem, m.Load, strings.Join(m.Tools, "; "))
}

// ticks is what the processors have spent their time on.
type ticks struct{ idle, all float64 }

// processor is what they have since the start of the machine.
func processor() (t ticks) {
	line, _, _ := strings.Cut(contents("/proc/stat"), "\n")
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

// contents are those of a file, or unknown.
func contents(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

// field is what stands behind a name in a file.
func field(name, key string) string {
	for line := range strings.Lines(contents(name)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// fileSystem is the type of that of dir.
func fileSystem(dir string) string {
	kind, at := "an unknown file system", ""
	for line := range strings.Lines(contents("/proc/self/mounts")) {
		fields := strings.Fields(line)
		if len(fields) < 3 || len(fields[1]) < len(at) {
			continue
		}
		if strings.HasPrefix(dir+"/", strings.TrimSuffix(fields[1], "/")+"/") {
			at, kind = fields[1], fields[2]
		}
	}
	return kind
}
