//go:build unix

package hook

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// group has command run in a process group of its own, with lock as descriptor 3.
func group(command *exec.Cmd, lock *os.File) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.ExtraFiles = []*os.File{lock}
}

func terminate(leader *os.Process) { _ = syscall.Kill(-leader.Pid, syscall.SIGTERM) } // it may be over
func kill(leader *os.Process)      { _ = syscall.Kill(-leader.Pid, syscall.SIGKILL) }

// openLocked opens the file name, which it makes if it is missing, and locks it. It returns no
// file if another process has it.
func openLocked(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil //nolint:nilnil // locked, which is no error
	}
	return nil, fmt.Errorf("lock %s: %w", name, err)
}
