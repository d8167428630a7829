//go:build unix

package conns

import "golang.org/x/sys/unix"

// mostDescriptors bounds the descriptors that count: no process of ours has as many.
const mostDescriptors = 1 << 20

// descriptors returns how many files and sockets this process may have open; the runtime of
// Go has raised the soft limit to the hard one. It returns 0 if that is unknown.
func descriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(uint64(limit.Cur), mostDescriptors)) //nolint:unconvert // it is signed on some systems
}
