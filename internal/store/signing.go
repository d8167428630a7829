package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
)

// SignBy has the writers of the directory sign. Without it they change nothing where there is a
// release. It must be called before any other method.
func (s *Store) SignBy(opts signing.Options) { s.signing = &opts }

// Released returns the release of the directory, whose signature is not verified. The error
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
	signer *signing.Signer // nil unless this process may sign
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
// matches [signing.ErrSigned] without the key, and [signing.ErrOtherKey], [signing.ErrFeed],
// [signing.ErrUnsigned] or [signing.ErrCopy] if the key must not be used here.
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
			"or choose a new directory", signing.ErrUnsigned, r.store.dir, len(held))
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
					"with 'shardcast-origin sign --adopt'", signing.ErrUnsigned, e.Version, r.store.dir)
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
	last := r.signer.Lines()
	for _, line := range add {
		if last[line.Version].Withdrawn {
			return fmt.Errorf("%s was withdrawn; publish it under a new number", line.Version)
		}
	}
	return nil
}

// finish has the change c also do what the key has signed already, where the directory has an older
// release, because of a crash or since another program has put that there: versions that the last one
// does not list are taken away, and those that it lists and are whole are offered.
func (r *releases) finish(c change) (change, error) {
	if r.signer == nil || !r.signer.IsAhead() {
		return c, nil
	}
	lines := r.lines(c)
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
func (r *releases) withoutKey(settings policy.Settings) error {
	feed := settings.Feed
	if r.last != nil {
		feed = r.last.Release.Feed
	} else if settings.Epoch == 0 {
		return nil
	}
	return fmt.Errorf("%w: those in %s are of the feed %s; name the file of its key by --sign-key",
		signing.ErrSigned, r.store.dir, feed)
}

// prepare makes the signer, with newEpoch also in a copy.
func (r *releases) prepare(settings policy.Settings, newEpoch bool) error {
	opts := *r.store.signing
	opts.Logger = r.store.logger
	signer, err := signing.New(signing.Directory{
		Name: r.store.dir, Feed: settings.Feed, Epoch: settings.Epoch, Seq: r.seq, Last: r.last,
	}, opts, newEpoch)
	if err == nil {
		r.signer = signer
	}
	return err
}

// begin gives the next release its number, which has to be on the disk before the signature, and
// has the settings agree with it. The caller holds these.
func (r *releases) begin() error {
	if r.signer == nil {
		return nil
	}
	_, after, err := r.store.edit(func(settings *policy.Settings) {
		settings.Feed, settings.Epoch = r.signer.Feed(), r.signer.Epoch()
		if expires := r.signer.Expires(); expires != 0 {
			settings.Expires = int64(expires / time.Second)
		}
	})
	if err != nil {
		return err
	}
	r.next, r.seq = after.Validity(), r.signer.Number()
	return nil
}

// sign signs the release after the change c, and has its offer state the digests that the release
// has. It returns nil if this process does not sign.
func (r *releases) sign(c change, withdrawn []shard.Version) (*release.Signed, error) {
	if r.signer == nil {
		return nil, nil //nolint:nilnil // nothing is signed
	}
	if c.draft != nil {
		line, _, err := r.store.describe(c.draft.version, c.draft.path())
		if err != nil {
			return nil, err
		}
		c.add = append(c.add, line)
	}
	known := r.lines(c)
	lines := make([]release.Entry, len(c.offer))
	for i, e := range c.offer {
		lines[i] = known[e.Version]
		c.offer[i].Digest = lines[i].Digest
	}
	signed, err := r.signer.Sign(lines, withdrawn, r.next)
	return &signed, err
}

// lines returns the lines of the last release and those that the change c adds.
func (r *releases) lines(c change) map[shard.Version]release.Entry {
	lines := r.signer.Lines()
	for _, line := range c.add {
		lines[line.Version] = line
	}
	return lines
}

// written notes that the release of [releases.sign] is in place.
func (r *releases) written(signed release.Signed) {
	r.last = &signed
	r.signer.Published(signed)
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
