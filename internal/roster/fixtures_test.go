package roster_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rosterOf returns a roster of the upstreams, which draws the first server that may be
// asked, and makes three attempts, unless opts say otherwise.
func rosterOf(t *testing.T, opts roster.Options, upstreams ...string) *roster.Roster {
	t.Helper()
	for _, text := range upstreams {
		u, err := url.Parse(text)
		require.NoError(t, err)
		opts.Upstreams = append(opts.Upstreams, u)
	}
	opts.Timeout = cmp.Or(opts.Timeout, time.Minute)
	opts.Attempts = cmp.Or(opts.Attempts, 3)
	opts.Waits.FastAttempts = cmp.Or(opts.Waits.FastAttempts, 3)
	opts.Waits.FastWait = cmp.Or(opts.Waits.FastWait, 2*time.Second)
	opts.Waits.SlowWait = cmp.Or(opts.Waits.SlowWait, 15*time.Second)
	opts.Logger = slog.New(slog.DiscardHandler)
	if opts.Draw == nil {
		opts.Draw = func() float64 { return 0 }
	}
	if opts.Changed == nil {
		opts.Changed = func([]*remote.Server) {}
	}
	if opts.Resolve == nil {
		opts.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }
	}
	r := roster.New(opts)
	t.Cleanup(r.Close)
	return r
}

// errFailed is what Failed of the jobs of jobOf adds to the errors of the servers.
var errFailed = errors.New("no server has done it")

// jobOf returns a job that any server may do.
func jobOf(do func(s *remote.Server) error) roster.Job {
	return roster.Job{
		May:    func(*remote.Server) bool { return true },
		Do:     do,
		Refuse: func(context.Context, *remote.Server, error) {},
		Gone:   func(context.Context, *remote.Server) bool { return false },
		Again:  func(context.Context) {},
		Failed: func(errs []error) error { return errors.Join(append(errs, errFailed)...) },
		Logger: slog.New(slog.DiscardHandler),
	}
}

// away is the answer of a server that is busy.
func away(wait time.Duration) error { return &remote.Busy{Err: remote.Status(503), Wait: wait} }

// names returns the names of servers.
func names(servers []*remote.Server) []string {
	texts := make([]string, len(servers))
	for i, s := range servers {
		texts[i] = s.Name
	}
	return texts
}
