// Package signing decides what the next release of a data directory says: by which key, of which feed,
// under which number, and with which lines of the versions on offer. It refuses to know files of a
// data directory.
//
// What a caller may lean on: a release follows the last one that the key has signed, also elsewhere on
// this machine, or is refused; and its number is higher. The number has to be on the disk before the
// signature is made, so [Signer.Number] comes first.
package signing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/trust"
)

const (
	// DefaultExpires is how long a release is valid where a directory says nothing else.
	DefaultExpires = 7 * 24 * time.Hour

	// NeverExpires is the time for which a release is valid that does not expire.
	NeverExpires = -1 * time.Second

	// MaxExpires bounds the time for which a release is valid, so that its end can be written.
	MaxExpires = 100 * 365 * 24 * time.Hour
)

// memoryPatience is how long a writer waits for another one that remembers its release.
const memoryPatience = 10 * time.Second

// Errors of signed directories. Each says what to do.
var (
	// ErrSigned means that a directory has a release, so that its versions change only with the
	// key.
	ErrSigned = errors.New("the versions of the data directory are signed")

	// ErrUnsigned means that a directory has versions that no release lists.
	ErrUnsigned = errors.New("the versions of the data directory are not signed")

	// ErrFeed means that a directory has another feed, or none yet.
	ErrFeed = errors.New("feed")

	// ErrOtherKey means that the release of a directory was signed by another key, or was changed.
	ErrOtherKey = errors.New("the release is not of this key")

	// ErrCopy means that the key has signed later releases of the feed than the directory has.
	ErrCopy = errors.New("the data directory is a copy, or was restored")
)

// Options say how the releases of a directory are signed. Key is required.
type Options struct {
	// Key signs the releases. Previous are keys of which the last release may be: the first
	// signature by another key takes over what they have signed.
	Key      release.PrivateKey
	Previous []release.PublicKey

	// Feed names the directory's list of versions at its first release, and belongs to the
	// directory afterwards. Empty means the directory's.
	Feed string

	// Expires becomes the time for which releases of the directory are valid, in whole seconds, or
	// [NeverExpires]. Zero means the directory's own, [DefaultExpires] at first.
	Expires time.Duration

	// StateDir is a directory in which the latest release of the key is remembered, of any data
	// directory: it is made if it is missing. By it a data directory is recognised that is a copy, or was
	// restored: its releases would be lower, and readers would ignore them. Empty remembers nothing.
	StateDir string

	// Logger receives a warning if nothing can be remembered. Nil discards.
	Logger *slog.Logger
}

// Check returns an error if no release can be like that. It matches [ErrFeed] for the feed.
func (o Options) Check() error {
	if o.Feed != "" {
		if err := release.CheckFeed(o.Feed); err != nil {
			return fmt.Errorf("%w: %w", ErrFeed, err)
		}
	}
	if o.Expires != NeverExpires && (o.Expires < 0 || o.Expires > MaxExpires || o.Expires%time.Second != 0) {
		return fmt.Errorf("releases cannot be valid for %s: want whole seconds, up to %d days, or never",
			o.Expires, MaxExpires/(24*time.Hour))
	}
	return nil
}

// A Directory is what a data directory says of its releases. The zero value is one without any.
type Directory struct {
	// Name is its path, for people.
	Name string

	// Feed and Epoch are those of its settings, and Seq is the highest number that was given.
	Feed       string
	Epoch, Seq uint64

	// Last is its release, or nil.
	Last *release.Signed
}

// A Signer signs the releases of one directory, for as long as no other process does.
type Signer struct {
	opts   Options
	name   string // of the directory
	feed   string
	epoch  uint64
	seq    uint64          // the highest that was given, also to a release that was given up
	last   []release.Entry // of the last release
	ahead  bool            // that is not the directory's, which is older
	memory *trust.Keeper   // of what the key has signed
}

// New returns a Signer for a directory. With newEpoch, readers begin again with its next release, and
// the directory may be a copy. Errors match [ErrOtherKey], [ErrFeed] or [ErrCopy].
func New(d Directory, opts Options, newEpoch bool) (*Signer, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Signer{opts: opts, name: d.Name, epoch: d.Epoch, seq: d.Seq}
	last := release.Release{Feed: d.Feed}
	if d.Last != nil {
		if err := s.verify(*d.Last); err != nil {
			return nil, fmt.Errorf("data directory %s: %w", s.name, err)
		}
		last = d.Last.Release
		s.epoch, s.seq, s.last = max(s.epoch, last.Epoch), max(s.seq, last.Seq), last.Entries
	}
	if err := s.nameFeed(cmp.Or(d.Feed, last.Feed), last.Feed); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", s.name, err)
	}
	return s, s.remember(last, newEpoch)
}

// verify returns an error matching [ErrOtherKey] unless the key, or one before it, has signed last.
func (s *Signer) verify(last release.Signed) error {
	err := last.Verify(s.opts.Key.Public())
	for _, key := range s.opts.Previous {
		if err == nil {
			break
		}
		err = last.Verify(key)
	}
	if err != nil {
		return fmt.Errorf("%w: %w; sign with the same key, or name the public key before this one by --previous-key",
			ErrOtherKey, err)
	}
	return nil
}

// nameFeed decides about the name of the feed, which is the directory's where it has one.
func (s *Signer) nameFeed(own, last string) error {
	switch {
	case last != "" && own != last:
		return fmt.Errorf("%w: the release is of %s, and the directory of %s", ErrFeed, last, own)
	case own == "" && s.opts.Feed == "":
		return fmt.Errorf("%w: the first release needs its name, such as weights.example.org/llama", ErrFeed)
	case own != "" && s.opts.Feed != "" && own != s.opts.Feed:
		return fmt.Errorf("%w: the directory has the feed %s and not %s; another feed needs another directory",
			ErrFeed, own, s.opts.Feed)
	}
	s.feed = cmp.Or(own, s.opts.Feed)
	return nil
}

// remember compares the directory, whose last release is given, with what the key has signed on this
// machine, and decides about the epoch and the release to follow.
func (s *Signer) remember(last release.Release, newEpoch bool) error {
	if s.opts.StateDir != "" {
		if err := os.MkdirAll(s.opts.StateDir, 0o700); err != nil {
			s.opts.Logger.Warn("signed releases not remembered", "dir", s.opts.StateDir, "err", err,
				"hint", "a copied data directory is not recognised; name another directory by --state-dir")
		}
	}
	var err error
	s.memory, err = trust.Open(trust.Options{
		Keys: []release.PublicKey{s.opts.Key.Public()}, Feed: s.feed, Dir: s.opts.StateDir,
	})
	if err != nil {
		return err
	}
	signed, _ := s.memory.Newest()
	there, here := signed.Release, release.Release{Epoch: s.epoch, Seq: s.seq}
	switch {
	case newEpoch:
		s.epoch, s.seq = max(here.Epoch, there.Epoch)+1, max(here.Seq, there.Seq)
		return nil
	case here.Compare(there) < 0:
		return fmt.Errorf("%w: the key has signed epoch %d, seq %d of the feed %s, and %s has come to epoch %d, "+
			"seq %d; go on in the original, or let readers begin again with 'shardcast-origin sign --new-epoch'",
			ErrCopy, there.Epoch, there.Seq, s.feed, s.name, here.Epoch, here.Seq)
	case last.Compare(there) < 0:
		// A crash has come before the release was written, or an older one was put in its place.
		s.last, s.ahead = there.Entries, true
	}
	s.epoch = max(s.epoch, 1)
	return nil
}

// Feed returns the name of the feed.
func (s *Signer) Feed() string { return s.feed }

// Epoch returns that of the next release.
func (s *Signer) Epoch() uint64 { return s.epoch }

// Expires returns the time for which releases are to be valid from now on, or 0 for the directory's.
func (s *Signer) Expires() time.Duration { return s.opts.Expires }

// IsAhead reports whether the key has signed a later release than that of the directory.
func (s *Signer) IsAhead() bool { return s.ahead }

// Lines returns the lines of the last release that the key has signed, by their versions.
func (s *Signer) Lines() map[shard.Version]release.Entry {
	lines := make(map[shard.Version]release.Entry, len(s.last))
	for _, line := range s.last {
		lines[line.Version] = line
	}
	return lines
}

// Number gives the next release its number, the milliseconds since 1970 or more, and returns it.
func (s *Signer) Number() uint64 {
	s.seq = max(s.seq+1, uint64(max(time.Now().UnixMilli(), 0)))
	return s.seq
}

// Sign signs the next release, of lines, which are ascending, and valid for a time or for
// [NeverExpires]. A version of the last release that is not among them is listed as withdrawn if it was so,
// or if withdrawn contains it, while a lower one is offered. The release is remembered when Sign returns.
func (s *Signer) Sign(
	lines []release.Entry, withdrawn []shard.Version, valid time.Duration,
) (release.Signed, error) {
	r := release.Release{
		Feed: s.feed, Epoch: s.epoch, Seq: s.seq, Issued: time.Now().UTC().Truncate(time.Second),
		Entries: slices.Clone(lines),
	}
	if valid != NeverExpires {
		r.Expires = r.Issued.Add(valid)
	}
	offered := release.Release{Entries: lines}
	for _, line := range s.last {
		_, kept := offered.Find(line.Version)
		bad := line.Withdrawn || slices.Contains(withdrawn, line.Version)
		if !kept && bad && len(lines) > 0 && lines[0].Version < line.Version {
			r.Entries = append(r.Entries, release.Entry{Version: line.Version, Withdrawn: true})
		}
	}
	slices.SortFunc(r.Entries, func(a, b release.Entry) int { return cmp.Compare(a.Version, b.Version) })
	signed, err := r.Sign(s.opts.Key)
	if err != nil {
		return release.Signed{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), memoryPatience)
	defer cancel()
	if _, err := s.memory.Offer(ctx, s.name, signed.Bytes()); err != nil {
		return release.Signed{}, err
	}
	return signed, nil
}

// Published notes that a release of [Signer.Sign] is in the directory, so that the next one follows it.
func (s *Signer) Published(signed release.Signed) {
	s.last, s.ahead = signed.Release.Entries, false
}
