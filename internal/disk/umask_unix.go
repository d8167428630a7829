//go:build unix

package disk

import (
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// umask returns the permissions that new files of this process do not get. It is read once.
var umask = sync.OnceValue(func() fs.FileMode {
	status, _ := os.ReadFile("/proc/self/status")
	if _, rest, ok := strings.Cut(string(status), "\nUmask:"); ok {
		text, _, _ := strings.Cut(rest, "\n")
		if mask, err := strconv.ParseUint(strings.TrimSpace(text), 8, 32); err == nil {
			return fs.FileMode(mask).Perm()
		}
	}
	// Elsewhere the system tells only by a change. Files made at this very moment are private.
	mask := unix.Umask(0o077)
	unix.Umask(mask)
	return fs.FileMode(mask).Perm()
})
