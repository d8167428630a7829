package origin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/inspect"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
)

// ErrWrong means that the bytes of a version are not those of its manifest.
var ErrWrong = errors.New("what is to be signed is wrong")

// Renewal says what a signature takes in beside the versions of the last release. The zero value
// takes in none.
type Renewal struct {
	// Versions are in the data directory, and in no release of it.
	Versions []shard.Version

	// Adopt takes in all versions on offer of a directory without a release.
	Adopt bool

	// NewEpoch has readers begin again, as they must with a copy of a directory.
	NewEpoch bool
}

// Sign signs the release of the data directory anew. Before that it reads all bytes of the
// versions that come in. Errors match [ErrWrong] if these are not their manifests',
// [shard.ErrNoVersion] if one is not in the directory, [signing.ErrSigned] for an adoption where
// there is a release, and else those of [store.Writer.Sign].
func (o *Origin) Sign(ctx context.Context, r Renewal) (signed release.Signed, err error) {
	versions := r.Versions
	if r.Adopt {
		if versions, err = o.adopted(); err != nil {
			return release.Signed{}, err
		}
	}
	lines := make([]release.Entry, len(versions))
	for i, v := range versions {
		if lines[i], err = o.examine(ctx, v); err != nil {
			return release.Signed{}, fmt.Errorf("sign %s: %w", v, err)
		}
	}
	w, err := o.store.Lock(ctx)
	if err != nil {
		return release.Signed{}, err
	}
	defer func() { err = errors.Join(err, w.Unlock()) }()
	if err := o.settle(ctx); err != nil {
		return release.Signed{}, err
	}
	for _, line := range lines {
		if again, err := o.store.Describe(line.Version); err != nil || again != line {
			return release.Signed{}, fmt.Errorf("sign %s: %w while it was read", line.Version, shard.ErrChanged)
		}
	}
	if signed, err = w.Sign(r.NewEpoch, lines...); err != nil {
		return release.Signed{}, fmt.Errorf("sign: %w", err)
	}
	s := signed.Release
	o.logger.Info("signed", "feed", s.Feed, "epoch", s.Epoch, "seq", s.Seq, "versions", len(s.Entries),
		"expires", expiry(s))
	return signed, nil
}

// expiry is the time of expiry for people.
func expiry(r release.Release) string {
	if r.Expires.IsZero() {
		return "never"
	}
	return r.Expires.Format(time.RFC3339)
}

// adopted returns the versions on offer in a directory without a release.
func (o *Origin) adopted() ([]shard.Version, error) {
	signed, err := o.store.Released()
	if err == nil {
		return nil, fmt.Errorf("%w already: %s has a release of the feed %s; a version comes in by its number",
			signing.ErrSigned, o.store.Dir(), signed.Release.Feed)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	entries, err := o.store.Distribution()
	versions := make([]shard.Version, len(entries))
	for i, e := range entries {
		versions[i] = e.Version
	}
	return versions, err
}

// examine reads all of the version v, and returns its line in a release.
func (o *Origin) examine(ctx context.Context, v shard.Version) (release.Entry, error) {
	line, err := o.store.Describe(v)
	if errors.Is(err, fs.ErrNotExist) {
		if o.store.Holds(v) {
			return release.Entry{}, errors.New("it has no manifest; broadcast its file again")
		}
		return release.Entry{}, fmt.Errorf("%w in %s", shard.ErrNoVersion, o.store.Dir())
	}
	if err != nil {
		return release.Entry{}, err
	}
	_, wrong, err := inspect.Version(ctx, o.store, distfile.Entry{Version: v, Digest: line.Digest})
	if err == nil && wrong != nil {
		err = fmt.Errorf("%w: %w", ErrWrong, errors.Join(wrong...))
	}
	return line, err
}

const (
	// leastRetry and mostRetry bound the pause before a signature that failed is tried again,
	// a tenth of the interval.
	leastRetry = time.Second
	mostRetry  = 10 * time.Minute
)

// KeepSigned renews the release now and at each interval, until ctx ends. It returns the error of
// the first signature. A later one that fails is logged, and tried again sooner.
func (o *Origin) KeepSigned(ctx context.Context, r Renewal, interval time.Duration) error {
	if _, err := o.Sign(ctx, r); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	for wait := interval; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = interval
		if _, err := o.Sign(ctx, Renewal{}); err != nil && ctx.Err() == nil {
			wait = min(max(interval/10, leastRetry), mostRetry)
			o.logger.Error("release not renewed", "retry", wait, "err", err)
		}
	}
}

// MayPublish returns an error if this process has another key than the data directory wants, or the
// wrong feed, see [signing.Options]. It is nil where that cannot be seen now.
func (o *Origin) MayPublish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, busy)
	defer cancel()
	w, err := o.store.Lock(ctx)
	if err != nil {
		return nil //nolint:nilerr // the publication finds out
	}
	err = errors.Join(w.Admit(nil), w.Unlock())
	for _, refused := range []error{
		signing.ErrSigned, signing.ErrUnsigned, signing.ErrOtherKey, signing.ErrFeed, signing.ErrCopy,
	} {
		if errors.Is(err, refused) {
			return err
		}
	}
	return nil
}
