package client

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// mostOlder is how many older versions are tried when the newest cannot be had, since each
	// may cost a whole download.
	mostOlder = 3

	// lookEvery is the time between two looks whether a download gets on.
	lookEvery = time.Second
)

// errStalled ends a download that brings next to nothing while an older version may come.
var errStalled = errors.New("it brings next to nothing")

// Newest downloads the newest version that can be had, from e on: if no server delivers a
// version, or it brings next to nothing, the next older one that counts is tried, up to three
// of them. Where that is no faster, Newest goes back to e and stays there. The function of
// describes the download of a version. Newest returns the version beside the results of
// [Client.Download]; the errors are those for e.
func (c *Client) Newest(
	ctx context.Context, e distfile.Entry, of func(distfile.Entry) Download,
) (distfile.Entry, shard.Manifest, fetch.Progress, error) {
	newest, patient := e, false
	var first error
	for tried := 0; ; tried++ {
		d := of(e)
		m, went, err := c.unlessStalled(ctx, d, !patient && tried < mostOlder)
		if err == nil || patient || ctx.Err() != nil || isLocal(err) {
			return e, m, went, err
		}
		if first == nil {
			first = err
		}
		next, ok := c.older(e)
		switch slow := errors.Is(first, errStalled); {
		case slow && (tried > 0 && errors.Is(err, errStalled) || !ok || tried == mostOlder):
			c.logger.Warn("no older version comes faster", "version", newest.Version.String())
			e, patient = newest, true
			continue
		case !ok || tried == mostOlder || c.pool.Refresh(ctx, fetch.Soon) != nil:
			return newest, m, went, first
		}
		c.logger.Warn("older version taken",
			"version", next.Version.String(), "newest", newest.Version.String(), "err", err)
		e = next
	}
}

// older returns the next older version than e that counts and that a server can deliver:
// first of those that a server without e has.
func (c *Client) older(e distfile.Entry) (distfile.Entry, bool) {
	for _, others := range [][]distfile.Entry{{e}, nil} {
		for _, o := range slices.Backward(c.pool.Count(fetch.Taker{Once: true}).Entries) {
			if o.Version < e.Version && c.pool.Elsewhere(o, others...) {
				return o, true
			}
		}
	}
	return distfile.Entry{}, false
}

// unlessStalled downloads d. If impatient, it gives up when d brings next to nothing while
// there is an older version.
func (c *Client) unlessStalled(
	ctx context.Context, d Download, impatient bool,
) (shard.Manifest, fetch.Progress, error) {
	if !impatient {
		return c.Download(ctx, d)
	}
	within, cancel := context.WithCancelCause(ctx)
	d.Headway = new(fetch.Headway)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		for {
			select {
			case <-within.Done():
				return
			case <-ticker.C:
			}
			if _, ok := c.older(d.Entry); ok && d.Headway.Stalled() {
				cancel(errStalled)
			}
		}
	}()
	m, went, err := c.Download(within, d)
	cancel(nil)
	<-watched
	return m, went, err
}

// local is an error of this machine, so that another version would fail, too.
type local struct{ error }

// Unwrap returns the error itself.
func (e local) Unwrap() error { return e.error }

// asLocal returns err as a local one, unless it is nil.
func asLocal(err error) error {
	if err == nil {
		return nil
	}
	return local{err}
}

// isLocal reports whether err is of this machine.
func isLocal(err error) bool {
	return errors.As(err, new(local)) || errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError))
}
