//go:build unix

package cli

import "golang.org/x/sys/unix"

// inherited reports whether the process has descriptor fd from its parent, and has no process
// that it starts inherit fd. A descriptor of its own would be closed on exec already.
func inherited(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return false
	}
	unix.CloseOnExec(fd)
	return true
}
