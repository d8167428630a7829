package offers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/shard"
)

// noReleaseFor is how long a server that has no release, and names none in its answers, is
// not asked for one again while its distribution stays the same.
const noReleaseFor = time.Minute

// released is the release.txt of one server, as it was sent last.
type released struct {
	text   []byte       // nil if the server has none
	digest shard.Digest // of the text, or zero without one
	etag   string       // or empty
	asked  time.Time    // when the server was asked last, and answered
}

// isDue reports whether the server of l is to be asked for its release after the answer r.
func (l *listing) isDue(r reply) bool {
	if digest, err := shard.ParseDigest(r.release); err == nil {
		return digest != l.release.digest
	}
	changed := !r.unchanged && !slices.Equal(l.entries, r.entries)
	return changed || l.release.text != nil || time.Since(l.release.asked) >= noReleaseFor
}

// askRelease asks s, of which known is what it lists, for its release if r is a reason to. It
// reports whether that has changed. A failure leaves the text that is known, and is asked again
// with the next question.
func (o *Offers) askRelease(ctx context.Context, s *remote.Server, known listing, r reply) (changed bool) {
	if !known.isDue(r) {
		return false
	}
	now, err := o.releaseOf(ctx, s, known.release)
	if err != nil {
		o.opts.Logger.Debug("release not received", "upstream", s.Name, "err", err)
		o.authority.unheard(s, err)
		return false
	}
	changed = now.digest != known.release.digest
	if changed || known.release.asked.IsZero() {
		o.authority.heard(ctx, s, now.text)
	}
	o.listings.update(s, func(l *listing) { l.release = now })
	return changed
}

// releaseOf gets the release of s, of which another one is known.
func (o *Offers) releaseOf(ctx context.Context, s *remote.Server, known released) (released, error) {
	late := fmt.Errorf("not received within %v", o.opts.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, o.opts.Timeout, late)
	defer cancel()
	req := remote.Request{Path: []string{release.FileName}}
	if known.etag != "" {
		req.Header = map[string]string{"If-None-Match": known.etag}
	}
	body, err := o.opts.Remote.Get(ctx, s, req)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return released{asked: time.Now()}, nil
	case err != nil:
		return released{}, err
	}
	defer body.Close()
	if body.Unchanged {
		known.asked = time.Now()
		return known, nil
	}
	text, err := io.ReadAll(io.LimitReader(body, release.MaxSize+1))
	if err == nil && len(text) > release.MaxSize {
		err = fmt.Errorf("it has more than %d bytes", release.MaxSize)
	}
	if err != nil {
		return released{}, fmt.Errorf("%s: %w", s.URL.JoinPath(release.FileName).Redacted(), err)
	}
	return released{
		text: text, digest: sha256.Sum256(text), etag: body.Header.Get("ETag"), asked: time.Now(),
	}, nil
}

// Release returns the text of the release that a node serves which relays it, and nil for none;
// it reports whether that is known.
func (o *Offers) Release() (text []byte, known bool) { return o.authority.release() }

// relayed returns the release that most upstreams serve that answer, on a tie that of the one
// that is named first, and nil if most have none. It reports whether any answers.
func (o *Offers) relayed() (text []byte, known bool) {
	var all []released
	for _, upstream := range o.opts.Roster.Standings() {
		var of []released
		for _, s := range upstream.Servers {
			if l := o.listings.of(s); l.heard && !l.failing {
				of = append(of, l.release)
			}
		}
		if len(of) > 0 {
			all = append(all, mostServed(of))
		}
	}
	if len(all) == 0 {
		return nil, false
	}
	return mostServed(all).text, true
}

// mostServed returns the text that most of all are, or the first of those that as many are.
func mostServed(all []released) (most released) {
	best := 0
	for _, r := range all {
		same := 0
		for _, other := range all {
			if r.digest == other.digest {
				same++
			}
		}
		if same > best {
			most, best = r, same
		}
	}
	return most
}
