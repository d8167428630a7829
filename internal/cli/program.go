package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Flags for a program that runs a command as its child. Those that are about what the one
// process has from its parent have no environment variable: further children inherit that.

// exitWithStdin is the name of a flag that all commands have.
const exitWithStdin = "exit-with-stdin"

// stdinFlag adds --exit-with-stdin.
func stdinFlag(flags *pflag.FlagSet) *bool {
	with := flags.Bool(exitWithStdin, false, "end as by SIGTERM at the end of stdin")
	Env(flags, exitWithStdin, "")
	Note(flags, exitWithStdin, "A program gives its child a pipe for stdin and keeps the other end: the child ends "+
		"with it, however it ends. What comes through the pipe is left aside. /dev/null, or a stdin that is closed, "+
		"ends the command at once.")
	return with
}

// TakesStdin returns an error, as of [Usage], if cmd has --exit-with-stdin: another reader of
// stdin, which what names, would get only some of the bytes. The Args of cmd call it, before
// anything is read.
func TakesStdin(cmd *cobra.Command, what string) error {
	if Given(cmd.Flags(), exitWithStdin) {
		return Usage(fmt.Errorf("--%s has no place with %s, which reads stdin to its end itself", exitWithStdin, what))
	}
	return nil
}

// stdinEnded is the cause of a context's end by the end of stdin.
var stdinEnded = interrupted{signal: syscall.SIGTERM, stdin: true}

// awaitStdin calls end when stdin has ended or cannot be read.
func awaitStdin(stdin io.Reader, end context.CancelCauseFunc) {
	_, _ = io.Copy(io.Discard, stdin) // an error is an end, too
	end(stdinEnded)
}

// ready is a flag's descriptor for [Ready]: its number, or 0.
type ready int

// Set reads the flag.
func (r *ready) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n <= 2 {
		return errors.New("want the number of an open file descriptor from 3 on")
	}
	if !inherited(int(n)) {
		return errors.New("no such file descriptor is open; the program that starts this command has to pass it on")
	}
	*r = ready(n)
	return nil
}

// String returns the number.
func (r *ready) String() string { return strconv.Itoa(int(*r)) }

// Type stands for the value in the help.
func (r *ready) Type() string { return "NUMBER" }

// Ready says to the program that has started a command where the command listens.
type Ready struct {
	role string
	fd   ready
}

// ReadyFlag adds --ready-fd to flags of a command in a role, with what is described by when.
func ReadyFlag(flags *pflag.FlagSet, role, when string) *Ready {
	r := &Ready{role: role}
	flags.Var(&r.fd, "ready-fd", "file descriptor to write a line of JSON to "+when+", above 2 (default none)")
	Env(flags, "ready-fd", "")
	Note(flags, "ready-fd", `The line is {"ready":true,"role":"`+role+`","address":"127.0.0.1:8000","port":8000,`+
		`"version":"v1.0.0"}, with the version of the program. The descriptor is closed then; without a line it is `+
		"closed by the end of the process.")
	return r
}

// readiness is the line in JSON.
type readiness struct {
	Ready   bool   `json:"ready"`
	Role    string `json:"role"`
	Address string `json:"address"`
	Port    int    `json:"port"`
	Version string `json:"version"`
}

// Listener returns ln, or with --ready-fd a listener that writes the line when a server accepts
// its first connection there: by then it has all else that it needs.
func (r *Ready) Listener(ln net.Listener, logger *slog.Logger) net.Listener {
	if r == nil || r.fd == 0 {
		return ln
	}
	return &announced{Listener: ln, announce: sync.OnceFunc(func() {
		if err := r.write(ln.Addr()); err != nil {
			logger.Warn("ready line not written", "fd", int(r.fd), "err", err)
		}
	})}
}

// write writes the line and closes the descriptor.
func (r *Ready) write(addr net.Addr) error {
	line := readiness{Ready: true, Role: r.role, Address: addr.String(), Version: buildVersion()}
	if tcp, ok := addr.(*net.TCPAddr); ok {
		line.Port = tcp.Port
	}
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(r.fd), "ready-fd")
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}

// announced is a listener that announces that a server accepts connections from it.
type announced struct {
	net.Listener

	announce func()
}

// Accept accepts the next connection.
func (a *announced) Accept() (net.Conn, error) {
	a.announce()
	return a.Listener.Accept()
}
