// Package profile serves profiles of its own process for go tool pprof. It refuses to know
// the work of the process, and has no access control: callers choose the address.
package profile

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/shardcast/shardcast/internal/wire"
)

// Serve serves profiles on addr until ctx ends, and returns their URL. A bare port is one of
// loopback, because a profile shows the inside of a process; 0 is any free port. Errors are
// the network's.
func Serve(ctx context.Context, addr string) (url string, err error) {
	addr = wire.LocalAddress(addr)
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("serve profiles: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	host, _, _ := net.SplitHostPort(addr)
	names := wire.Names{Allowed: []string{host}}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !names.Have(r.Host) { // a web page whose name leads here must not read a profile
			http.Error(w, "profiles are served under the address of --pprof alone", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	go func() { _ = srv.Serve(ln) }() // until it is closed
	return "http://" + ln.Addr().String() + "/debug/pprof/", nil
}
