//go:build !unix

package hook

import (
	"os"
	"os/exec"
)

// group does nothing where there are no process groups: the command alone is ended.
func group(*exec.Cmd, *os.File) {}

func terminate(leader *os.Process) { _ = leader.Kill() } // it may be over
func kill(leader *os.Process)      { _ = leader.Kill() }

// openLocked opens the file name, which it makes if it is missing. Processes cannot inherit a
// lock here.
func openLocked(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
}
