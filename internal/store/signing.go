package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/trust"
)

const (
	// DefaultExpires is how long a release is valid where the directory says nothing else.
	DefaultExpires = 7 * 24 * time.Hour

	// NeverExpires is the time for which a release is valid that does not expire.
	NeverExpires = -1 * time.Second

	// maxExpires bounds the time for which a release is valid, so that its end can be written.
	maxExpires = 100 * 365 * 24 * time.Hour
)

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

// A Signing is how the writers of an origin's directory sign.
type Signing struct {
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
}

// Check returns an error if no release can be like that. It matches [ErrFeed] for the feed.
func (s Signing) Check() error {
	if s.Feed != "" {
		if err := release.CheckFeed(s.Feed); err != nil {
			return fmt.Errorf("%w: %w", ErrFeed, err)
		}
	}
	if s.Expires != NeverExpires && (s.Expires < 0 || s.Expires > maxExpires || s.Expires%time.Second != 0) {
		return fmt.Errorf("releases cannot be valid for %s: want whole seconds, up to %d days, or never",
			s.Expires, maxExpires/(24*time.Hour))
	}
	return nil
}

// SignBy has the writers of the directory sign. Without it they change nothing where there is a
// release. It must be called before any other method.
func (s *Store) SignBy(signing Signing) { s.signing = &signing }

// Released returns the release of the directory, whose signature nobody has verified. The error
// matches [fs.ErrNotExist] if there is none.
func (s *Store) Released() (release.Signed, error) {
	text, err := disk.ReadFile(s.root, release.FileName, release.MaxSize)
	if err != nil {
		return release.Signed{}, err
	}
	signed, err := release.Parse(text)
	if err != nil {
		err = fmt.Errorf("data directory %s: %w; restore the file, or remove it and sign the versions again with "+
			"'shardcast-origin sign --adopt'", s.dir, err)
	}
	return signed, err
}

// Describe returns the line of a release for the version v, which is in the directory, as its
// manifest has it. The error matches [fs.ErrNotExist] without a manifest.
func (s *Store) Describe(v shard.Version) (release.Entry, error) {
	line, _, err := s.describe(v, v.String())
	return line, err
}

// describe returns the line for the version v, and its manifest, which is in the directory dir.
func (s *Store) describe(v shard.Version, dir string) (release.Entry, shard.Manifest, error) {
	f, err := s.openRegular(path.Join(dir, shard.ManifestName))
	if err != nil {
		return release.Entry{}, shard.Manifest{}, err
	}
	defer f.Close()
	hash := sha256.New()
	m, err := shard.ParseManifest(io.TeeReader(f, hash))
	if err == nil {
		_, err = io.Copy(hash, f) // which is nothing but white space
	}
	if err != nil {
		return release.Entry{}, shard.Manifest{}, fmt.Errorf("%s: %w", v, err)
	}
	return release.Entry{
		Version: v, Digest: m.Digest, Size: m.Size, Manifest: shard.Digest(hash.Sum(nil)),
	}, m, nil
}

// isWhole reports whether the version of a line is in place with its manifest, and with files of
// the right sizes. The error says why that cannot be seen now.
func (s *Store) isWhole(line release.Entry) (bool, error) {
	if !s.Holds(line.Version) {
		return false, nil
	}
	is, m, err := s.describe(line.Version, line.Version.String())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, shard.ErrManifest) {
		return false, nil
	}
	if err != nil || is != line {
		return false, err
	}
	for number := range m.Shards {
		info, err := s.root.Lstat(path.Join(line.Version.String(), shard.FileName(number+1)))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !info.Mode().IsRegular() || info.Size() != m.Shard(number+1).Size {
			return false, nil
		}
	}
	return true, nil
}

// releases are those of a directory in the hands of its writer.
type releases struct {
	store  *Store
	last   *release.Signed // or nil; that of a middle does not count
	seq    uint64          // the highest that was given, also to a release that was given up
	signer *signer         // nil unless this process may sign
	next   time.Duration   // how long the next release is valid
}

// newest returns the highest version that the last release mentions, or 0.
func (r *releases) newest() shard.Version {
	if r.last == nil || len(r.last.Release.Entries) == 0 {
		return 0
	}
	return r.last.Release.Entries[len(r.last.Release.Entries)-1].Version
}

// rollForward reads the release of an origin, makes the distribution what it lists, as far as that
// is whole here, and returns it. A crash between two steps has left it otherwise, or a program
// without the key has changed it. It moves no directories.
func (r *releases) rollForward(held []distfile.Entry) ([]distfile.Entry, error) {
	if r.store.role != Origin {
		return held, nil
	}
	last, err := r.store.Released()
	if errors.Is(err, fs.ErrNotExist) {
		return held, nil
	}
	if err != nil {
		return nil, err
	}
	r.last = &last
	was := make(map[shard.Version]distfile.Entry, len(held))
	for _, e := range held {
		was[e.Version] = e
	}
	var now []distfile.Entry
	var added, removed []string
	for _, line := range last.Release.Entries {
		e, err := r.offerOf(line, was[line.Version])
		if err != nil {
			return nil, fmt.Errorf("data directory %s: %w", r.store.dir, err)
		}
		if e.Version == 0 {
			continue
		}
		if e != was[e.Version] {
			added = append(added, e.Version.String())
		}
		now = append(now, e)
		delete(was, e.Version)
	}
	if len(added)+len(was) == 0 {
		return held, nil
	}
	for _, e := range held {
		if _, left := was[e.Version]; left {
			removed = append(removed, e.Version.String())
		}
	}
	r.store.logger.Warn("distribution made to agree with the release", "added", added, "removed", removed)
	return now, r.store.writeFile(distfile.FileName, distfile.Encode(now))
}

// offerOf returns the entry for a line of the release, where the distribution has was, or none if
// the version is not on offer.
func (r *releases) offerOf(line release.Entry, was distfile.Entry) (distfile.Entry, error) {
	switch {
	case line.Withdrawn:
		return distfile.Entry{}, nil
	case was.Digest == line.Digest && r.store.Holds(line.Version):
		return was, nil // as this writer, or another one, has put it there
	}
	if whole, err := r.store.isWhole(line); err != nil || !whole {
		return distfile.Entry{}, err
	}
	return distfile.Entry{Version: line.Version, Digest: line.Digest}, nil
}

// authorize returns an error if this process must not change the versions of the directory: it
// matches [ErrSigned] without the key, and [ErrOtherKey], [ErrFeed], [ErrUnsigned] or [ErrCopy] if
// the key must not be used here.
func (r *releases) authorize(newEpoch bool) error {
	if r.store.role != Origin || r.signer != nil {
		return nil
	}
	settings, err := r.store.Settings()
	if err != nil {
		return err
	}
	if r.store.signing == nil {
		return r.withoutKey(settings)
	}
	held, err := r.store.Distribution()
	if err != nil {
		return err
	}
	if r.last == nil && len(held) > 0 {
		return fmt.Errorf("%w: %s has %d without a signature; sign them once with 'shardcast-origin sign --adopt', "+
			"or choose a new directory", ErrUnsigned, r.store.dir, len(held))
	}
	return r.prepare(settings, newEpoch)
}

// adopt is [releases.authorize] for the versions of add, which need not be signed.
func (r *releases) adopt(newEpoch bool, add []release.Entry) error {
	held, err := r.store.Distribution()
	if err != nil {
		return err
	}
	if r.last == nil {
		for _, e := range held {
			if !slices.ContainsFunc(add, func(line release.Entry) bool { return line.Version == e.Version }) {
				return fmt.Errorf("%w: %s in %s would be retired by a release without it; sign all of them once "+
					"with 'shardcast-origin sign --adopt'", ErrUnsigned, e.Version, r.store.dir)
			}
		}
	}
	settings, err := r.store.Settings()
	if err != nil {
		return err
	}
	if err := r.prepare(settings, newEpoch); err != nil {
		return err
	}
	for _, line := range r.signer.last {
		if line.Withdrawn && slices.ContainsFunc(add, func(e release.Entry) bool { return e.Version == line.Version }) {
			return fmt.Errorf("%s was withdrawn; publish it under a new number", line.Version)
		}
	}
	return nil
}

// finish has the change c also do what the key has signed already, where the directory has an older
// release, because of a crash or since another program has put that there: versions that the last one
// does not list are taken away, and those that it lists and are whole are offered.
func (r *releases) finish(c change) (change, error) {
	if r.signer == nil || !r.signer.ahead {
		return c, nil
	}
	lines := r.signer.lines(c)
	offer := make([]distfile.Entry, 0, len(c.offer))
	var added, removed []string
	for _, e := range c.offer {
		line, ok := lines[e.Version]
		delete(lines, e.Version)
		if ok && !line.Withdrawn || c.draft != nil && c.draft.version == e.Version {
			offer = append(offer, e)
			continue
		}
		removed = append(removed, e.Version.String())
		c.gone, c.where = append(slices.Clone(c.gone), e.Version), cmp.Or(c.where, retired)
	}
	for v, line := range lines {
		if slices.Contains(c.gone, v) {
			continue
		}
		e, err := r.offerOf(line, distfile.Entry{})
		if err != nil {
			return change{}, err
		}
		if e.Version != 0 {
			offer, added = append(offer, e), append(added, v.String())
		}
	}
	slices.SortFunc(offer, func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) })
	c.offer = offer
	r.store.logger.Warn("release was an older one", "added", added, "removed", removed)
	return c, nil
}

// withoutKey is [releases.authorize] of a process without a key.
func (r *releases) withoutKey(settings Settings) error {
	feed := settings.Feed
	if r.last != nil {
		feed = r.last.Release.Feed
	} else if settings.Epoch == 0 {
		return nil
	}
	return fmt.Errorf("%w: those in %s are of the feed %s; name the file of its key by --sign-key",
		ErrSigned, r.store.dir, feed)
}

// prepare makes the signer, with newEpoch also in a copy.
func (r *releases) prepare(settings Settings, newEpoch bool) error {
	s := &signer{by: *r.store.signing, epoch: settings.Epoch}
	last := release.Release{Feed: settings.Feed}
	if r.last != nil {
		if err := s.verify(*r.last); err != nil {
			return fmt.Errorf("data directory %s: %w", r.store.dir, err)
		}
		last = r.last.Release
		s.epoch, r.seq = max(s.epoch, last.Epoch), max(r.seq, last.Seq)
		s.last = last.Entries
	}
	if err := s.nameFeed(cmp.Or(settings.Feed, last.Feed), last.Feed); err != nil {
		return fmt.Errorf("data directory %s: %w", r.store.dir, err)
	}
	if err := r.compare(s, newEpoch); err != nil {
		return err
	}
	r.signer = s
	return nil
}

// compare compares the directory with what the key of s has signed elsewhere, and decides about
// the epoch.
func (r *releases) compare(s *signer, newEpoch bool) error {
	if s.by.StateDir != "" {
		if err := os.MkdirAll(s.by.StateDir, 0o700); err != nil {
			r.store.logger.Warn("signed releases not remembered", "dir", s.by.StateDir, "err", err,
				"hint", "a copied data directory is not recognised; name another directory by --state-dir")
		}
	}
	var err error
	s.memory, err = trust.Open(trust.Options{
		Keys: []release.PublicKey{s.by.Key.Public()}, Feed: s.feed, Dir: s.by.StateDir,
	})
	if err != nil {
		return err
	}
	signed, _ := s.memory.Newest()
	there, here := signed.Release, release.Release{Epoch: s.epoch, Seq: r.seq}
	switch {
	case newEpoch:
		s.epoch, r.seq = max(here.Epoch, there.Epoch)+1, max(here.Seq, there.Seq)
		return nil
	case here.Compare(there) < 0:
		return fmt.Errorf("%w: the key has signed epoch %d, seq %d of the feed %s, and %s has come to epoch %d, "+
			"seq %d; go on in the original, or let readers begin again with 'shardcast-origin sign --new-epoch'",
			ErrCopy, there.Epoch, there.Seq, s.feed, r.store.dir, here.Epoch, here.Seq)
	case r.last == nil || r.last.Release.Compare(there) < 0:
		// A crash has come before the release was written, or an older one was put in its place.
		s.last, s.ahead = there.Entries, true
	}
	s.epoch = max(s.epoch, 1)
	return nil
}

// begin gives the next release its number, which has to be on the disk before the signature, and
// has the settings agree with it. The caller holds these.
func (r *releases) begin() error {
	if r.signer == nil {
		return nil
	}
	s := r.signer
	_, after, err := r.store.edit(func(settings *Settings) {
		settings.Feed, settings.Epoch = s.feed, s.epoch
		if s.by.Expires != 0 {
			settings.Expires = int64(s.by.Expires / time.Second)
		}
	})
	if err != nil {
		return err
	}
	r.next = after.Validity()
	r.seq = max(r.seq+1, uint64(max(time.Now().UnixMilli(), 0)))
	return nil
}

// sign signs the release after the change c, and has its offer state the digests that the release
// has. It returns nil if this process does not sign.
func (r *releases) sign(c change, withdrawn []shard.Version) (*release.Signed, error) {
	if r.signer == nil {
		return nil, nil //nolint:nilnil // nothing is signed
	}
	s := r.signer
	if c.draft != nil {
		line, _, err := r.store.describe(c.draft.version, c.draft.path())
		if err != nil {
			return nil, err
		}
		c.add = append(c.add, line)
	}
	list := s.list(c, withdrawn)
	list.Feed, list.Epoch, list.Seq, list.Issued = s.feed, s.epoch, r.seq, time.Now().UTC().Truncate(time.Second)
	if r.next != NeverExpires {
		list.Expires = list.Issued.Add(r.next)
	}
	signed, err := list.Sign(s.by.Key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), memoryPatience)
	defer cancel()
	_, err = s.memory.Offer(ctx, r.store.dir, signed.Bytes())
	return &signed, err
}

// memoryPatience is how long a writer waits for another one that remembers its release.
const memoryPatience = 10 * time.Second

// written notes that the release of [releases.sign] is in place.
func (r *releases) written(signed release.Signed) {
	r.last = &signed
	r.signer.last, r.signer.ahead = signed.Release.Entries, false
}

// takeBack puts the last release in the place of the next one, if that is there.
func (r *releases) takeBack() error {
	now, err := disk.ReadFile(r.store.root, release.FileName, release.MaxSize)
	switch {
	case err == nil && r.last == nil:
		return errors.Join(r.store.root.Remove(release.FileName), disk.SyncDir(r.store.root, "."))
	case r.last != nil && !bytes.Equal(now, r.last.Bytes()):
		return r.store.writeFile(release.FileName, r.last.Bytes())
	}
	return nil
}

// A signer has the key, and what the next release follows.
type signer struct {
	by     Signing
	feed   string
	epoch  uint64
	last   []release.Entry // of the last release
	ahead  bool            // that is not the directory's, which is older
	memory *trust.Keeper   // of what the key has signed
}

// verify returns an error matching [ErrOtherKey] unless the key, or one before it, has signed last.
func (s *signer) verify(last release.Signed) error {
	err := last.Verify(s.by.Key.Public())
	for _, key := range s.by.Previous {
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
func (s *signer) nameFeed(own, last string) error {
	switch {
	case last != "" && own != last:
		return fmt.Errorf("%w: the release is of %s, and the directory of %s", ErrFeed, last, own)
	case own == "" && s.by.Feed == "":
		return fmt.Errorf("%w: the first release needs its name, such as weights.example.org/llama", ErrFeed)
	case own != "" && s.by.Feed != "" && own != s.by.Feed:
		return fmt.Errorf("%w: the directory has the feed %s and not %s; another feed needs another directory",
			ErrFeed, own, s.by.Feed)
	}
	s.feed = cmp.Or(own, s.by.Feed)
	return nil
}

// list returns the versions of the release after the change c, by the lines of the last release
// and those that c adds, and has its offer state their digests. A version of the last release that is
// not on offer any more stays as withdrawn, if it is, while a lower one is listed.
func (s *signer) list(c change, withdrawn []shard.Version) (list release.Release) {
	lines := s.lines(c)
	for i, e := range c.offer {
		c.offer[i].Digest = lines[e.Version].Digest
		list.Entries = append(list.Entries, lines[e.Version])
		delete(lines, e.Version)
	}
	for v, line := range lines {
		if bad := line.Withdrawn || slices.Contains(withdrawn, v); bad && len(c.offer) > 0 && c.offer[0].Version < v {
			list.Entries = append(list.Entries, release.Entry{Version: v, Withdrawn: true})
		}
	}
	slices.SortFunc(list.Entries, func(a, b release.Entry) int { return cmp.Compare(a.Version, b.Version) })
	return list
}

// lines returns the lines of the last release and those that the change c adds.
func (s *signer) lines(c change) map[shard.Version]release.Entry {
	lines := make(map[shard.Version]release.Entry, len(c.offer))
	for _, line := range slices.Concat(s.last, c.add) {
		lines[line.Version] = line
	}
	return lines
}
