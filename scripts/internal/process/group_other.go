//go:build !unix

package process

import "os/exec"

// group leaves cmd as it is: it is killed alone.
func group(cmd *exec.Cmd) { cmd.Cancel = func() error { return cmd.Process.Kill() } }
