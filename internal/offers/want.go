package offers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/trust"
)

// A Want is one version as one fetch wants it: of the servers that have it, those that
// have not been refused. Its methods may be called from any goroutine.
type Want struct {
	Entry distfile.Entry

	offers *Offers
	has    func(s *remote.Server, e distfile.Entry) bool
	only   *remote.Server // the one that is asked alone, or nil

	mu      sync.Mutex // guards refused
	refused map[*remote.Server]error
}

// Want returns a Want of the shards of e.
func (o *Offers) Want(e distfile.Entry) *Want { return o.want(e, o.authority.delivers) }

// description returns a Want of the manifest of e, and of the list of its files.
func (o *Offers) description(e distfile.Entry) *Want { return o.want(e, o.authority.describes) }

func (o *Offers) want(e distfile.Entry, has func(*remote.Server, distfile.Entry) bool) *Want {
	return &Want{Entry: e, offers: o, has: has, refused: make(map[*remote.Server]error)}
}

// Only returns a Want of e that asks s alone.
func (o *Offers) Only(s *remote.Server, e distfile.Entry) *Want {
	w := o.Want(e)
	w.only = s
	return w
}

// May reports whether s may be asked: it has the version, and was not refused.
func (w *Want) May(s *remote.Server) bool {
	return (w.only == nil || w.only == s) && w.Refused(s) == nil && w.has(s, w.Entry)
}

// Job returns a job that asks the servers by do.
func (w *Want) Job(do func(*remote.Server) error) roster.Job {
	return roster.Job{
		May: w.May, Do: do, Refuse: w.Refuse, Gone: w.Gone, Failed: w.Failed,
		// A server that did not answer at first may be back, and have the version.
		Again:  func(ctx context.Context) { _ = w.offers.Refresh(ctx, Soon) }, // it has logged which are down
		Logger: w.offers.opts.Logger.With("version", w.Entry.Version.String()),
	}
}

// Gone finds out whether s lists the version no more: it was retired there, or replaced.
func (w *Want) Gone(ctx context.Context, s *remote.Server) bool {
	return w.offers.opts.Roster.Has(s) && w.offers.Ask(ctx, s) == nil && !w.has(s, w.Entry)
}

// Refuse has s not asked again for the version because of err, unless it turns out that s
// lists it no more. It may be a peer.
func (w *Want) Refuse(ctx context.Context, s *remote.Server, err error) {
	if w.Gone(ctx, s) {
		return
	}
	missing := errors.Is(err, fs.ErrNotExist)
	if !missing || w.offers.listings.has(s, w.Entry.Version) {
		w.offers.opts.Roster.Blame(s, err)
	}
	distrusted := errors.Is(err, trust.ErrNotTrusted)
	switch {
	case distrusted:
		w.offers.opts.Metrics.Failed(w.offers.opts.Roster.Number(s), metrics.Untrusted)
	case !missing:
		w.offers.opts.Metrics.Failed(w.offers.opts.Roster.Number(s), metrics.Wrong)
	}
	if w.refuse(s, err) && !missing {
		level := slog.LevelWarn
		if distrusted && w.offers.said(s, err) {
			level = slog.LevelDebug // in an earlier fetch
		}
		w.offers.opts.Logger.Log(ctx, level, "upstream not asked again",
			"version", w.Entry.Version.String(), "upstream", s.Name, "err", err)
	}
}

// mostSaid is how many errors of a server are remembered, so that each is said once.
const mostSaid = 100

// said reports whether err of s was said already, and notes that it is now.
func (o *Offers) said(s *remote.Server, err error) (again bool) {
	o.listings.update(s, func(l *listing) {
		text := err.Error()
		again = slices.Contains(l.said, text)
		if !again {
			l.said = append(slices.Clone(l.said[max(0, len(l.said)-mostSaid+1):]), text)
		}
	})
	return again
}

// refuse notes why s is not asked again, and reports whether that is new.
func (w *Want) refuse(s *remote.Server, err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refused[s] != nil {
		return false
	}
	w.refused[s] = err
	return true
}

// Refused returns why s is not asked again, or nil.
func (w *Want) Refused(s *remote.Server) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused[s]
}

// lacked reports whether any server does not have what was asked for.
func (w *Want) lacked() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for err := range maps.Values(w.refused) {
		if errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// Failed returns the error for a version that no server gives, of the errors of the last
// attempt and the reasons of servers that were refused. It matches [ErrNoVersion] if there
// are none of either. That a peer was refused is no reason.
func (w *Want) Failed(errs []error) error {
	errs = slices.Clone(errs)
	for _, s := range w.offers.opts.Roster.Ever() {
		if err := w.Refused(s); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		err := fmt.Errorf("no server offers %s with digest %s any more", w.Entry.Version, w.Entry.Digest)
		return remote.Matching(err, ErrNoVersion)
	}
	return failures(errs)
}
