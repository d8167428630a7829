package cmd_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// socket makes a socket that is handed to what is run as NAME from then on. Nobody else
// takes connections there, so they wait.
func socket(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: socket NAME [udp|unix|connected]")
	}
	kind := ""
	if len(args) > 1 {
		kind = args[1]
	}
	var made interface {
		File() (*os.File, error)
		Close() error
	}
	var err error
	loopback := net.IPv4(127, 0, 0, 1)
	switch kind {
	case "udp":
		made, err = net.ListenUDP("udp", &net.UDPAddr{IP: loopback})
	case "unix":
		made, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(ts.MkAbs("."), args[0])})
	case "", "connected":
		ln, bad := net.ListenTCP("tcp", &net.TCPAddr{IP: loopback})
		ts.Check(bad)
		ts.Defer(func() { _ = ln.Close() })
		made = ln
		ts.Setenv(args[0], ln.Addr().String())
		if addr, ok := ln.Addr().(*net.TCPAddr); ok && kind != "" {
			made, err = net.DialTCP("tcp", nil, addr)
		}
	default:
		ts.Fatalf("no socket is of kind %s", kind)
	}
	ts.Check(err)
	f, err := made.File()
	ts.Check(err)
	ts.Check(made.Close())
	ts.Defer(func() { _ = f.Close() })
	worldOf(ts).sockets[args[0]] = f
}

// handOver has cmd be started as sd_listen_fds(3) wants it: f is its descriptor 3, and
// LISTEN_PID its own process.
func handOver(cmd *exec.Cmd, f *os.File, name string) {
	cmd.ExtraFiles = []*os.File{f}
	cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES="+name)
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
}
