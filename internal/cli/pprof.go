package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// pprofFlag adds --pprof to flags, and returns what serves profiles where that says,
// once the flags are read, until ctx ends, and tells w where.
func pprofFlag(flags *pflag.FlagSet) func(ctx context.Context, w io.Writer) error {
	addr := flags.String("pprof", "", "`ADDRESS` to serve profiles of this process on, for go tool pprof: a port, which is one of loopback, or host:port for whoever reaches that; 0 is any port that is free (default none)")
	return func(ctx context.Context, w io.Writer) error {
		if *addr == "" {
			return nil
		}
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", onLoopback(*addr))
		if err != nil {
			return fmt.Errorf("serve profiles: %w", err)
		}
		fmt.Fprintf(w, "profiles on http://%s/debug/pprof/\n", ln.Addr())
		mux := http.NewServeMux()
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
		context.AfterFunc(ctx, func() { _ = srv.Close() })
		go func() { _ = srv.Serve(ln) }() // until it is closed
		return nil
	}
}

// onLoopback returns addr with the address of loopback where it names only a port: a
// profile shows more of a process than everybody is to see.
func onLoopback(addr string) string {
	if port := strings.TrimPrefix(addr, ":"); !strings.Contains(port, ":") {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
