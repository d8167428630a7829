package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

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

// machine is this one, with the file system of dir, and origin for which build it is.
func machine(ctx context.Context, dir, origin string) Machine {
	m := Machine{
		CPU:        cmp.Or(field("/proc/cpuinfo", "model name"), runtime.GOARCH),
		Cores:      runtime.NumCPU(),
		Memory:     field("/proc/meminfo", "MemTotal"),
		Kernel:     contents("/proc/sys/kernel/osrelease"),
		FileSystem: fileSystem(dir),
	}
	if load := strings.Fields(contents("/proc/loadavg")); len(load) > 2 {
		m.Load = strings.Join(load[:3], " ")
	}
	for _, tool := range [][]string{
		{origin, "version"},
		{"git", "describe", "--always", "--dirty"},
		{"openssl", "version"},
		{"curl", "--version"},
		{"aria2c", "--version"},
		{"wget", "--version"},
		{"split", "--version"},
		{nginx(), "-v"},
	} {
		if out, err := exec.CommandContext(ctx, tool[0], tool[1:]...).CombinedOutput(); err == nil {
			line, _, _ := strings.Cut(string(out), "\n")
			if tool[0] == "git" {
				line = "commit " + line
			}
			m.Tools = append(m.Tools, strings.TrimSpace(line))
		}
	}
	m.Tools = append(m.Tools, "bench built with "+runtime.Version())
	return m
}

// String is a paragraph.
func (m Machine) String() string {
	return fmt.Sprintf("%d cores, %s, %s of memory, Linux %s, %s. Load before: %s.\n%s.\n",
		m.Cores, m.CPU, m.Memory, m.Kernel, m.FileSystem, m.Load, strings.Join(m.Tools, "; "))
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
	return ""
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
