// Package machine describes the machine of a measurement. Where the system has no /proc
// most is unknown.
package machine

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// unknown stands for a fact that the system does not have.
const unknown = "unknown"

// A Machine is where a report was made.
type Machine struct {
	CPU        string   `json:"cpu"`
	Cores      int      `json:"cores"`
	Memory     string   `json:"memory"`
	Kernel     string   `json:"kernel"`
	FileSystem string   `json:"file_system"` // where files were
	Load       string   `json:"load_before"` // of one, five and fifteen minutes
	Tools      []string `json:"tools"`
}

// This is the machine of this process, with files in dir. Each of tools is a command that
// prints its release in its first line; those that fail are left out.
func This(ctx context.Context, dir string, tools ...[]string) Machine {
	m := Machine{
		CPU:        Field("/proc/cpuinfo", "model name"),
		Cores:      runtime.NumCPU(),
		Memory:     Field("/proc/meminfo", "MemTotal"),
		Kernel:     Contents("/proc/sys/kernel/osrelease"),
		FileSystem: FileSystem(dir),
		Load:       unknown,
		Tools:      []string{runtime.Version()},
	}
	if load := strings.Fields(Contents("/proc/loadavg")); len(load) > 2 {
		m.Load = strings.Join(load[:3], " ")
	}
	for _, tool := range append(tools, []string{"git", "describe", "--always", "--dirty"}) {
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

// Contents are those of a file, or unknown.
func Contents(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return unknown
	}
	return strings.TrimSpace(string(text))
}

// Field is the value of a name in a file, or unknown.
func Field(name, key string) string {
	for line := range strings.Lines(Contents(name)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return unknown
}

// FileSystem is the type of that of dir.
func FileSystem(dir string) string {
	kind, at := "an unknown file system", ""
	for line := range strings.Lines(Contents("/proc/self/mounts")) {
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
