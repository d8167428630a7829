// Package inspect says whether the versions of a data directory are what their manifests, the
// distribution and the release state. It refuses to change anything there.
package inspect

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/tree"
)

// Version reads all shards of the version e in st and of its deltas, and compares them with its manifest,
// the list of its files and the digest of the distribution. Its manifest is zero but for the digest where
// there is none, as in a directory of the Python package. It returns all that is wrong, by the
// names of files; the error says why the version cannot be verified now.
func Version(
	ctx context.Context, st *store.Store, e distfile.Entry,
) (m shard.Manifest, wrong []error, err error) {
	v := &verification{ctx: ctx, store: st, entry: e, blake3: shard.NewBLAKE3(), sha256: sha256.New()}
	if err := v.begin(); err != nil {
		return v.manifest, v.wrong, err
	}
	for number := 1; number <= v.count; number++ {
		if err := v.read(number); err != nil {
			return v.manifest, v.wrong, err
		}
	}
	v.end()
	err = v.deltas()
	return v.manifest, v.wrong, err
}

// verification is the verifying of one version.
type verification struct {
	ctx            context.Context //nolint:containedctx // of the one call of Version
	store          *store.Store
	entry          distfile.Entry
	manifest       shard.Manifest
	count          int              // of shards
	foreign        bool             // there is no manifest
	files          *tree.Comparison // or nil
	sha256, blake3 hash.Hash        // of all shards so far
	broken         bool             // a shard is wrong, so the digests of the whole say nothing
	wrong          []error
}

// begin reads the manifest and the list of files.
func (v *verification) begin() error {
	f, err := v.store.Manifest(v.entry.Version)
	if errors.Is(err, fs.ErrNotExist) && v.store.Holds(v.entry.Version) {
		v.foreign, v.manifest.Digest = true, v.entry.Digest
		numbers, err := v.store.Shards(v.entry.Version)
		slices.Sort(numbers)
		v.count = cmp.Or(v.entry.Count, len(slices.Compact(numbers)))
		return err
	}
	if err != nil {
		return v.note(shard.ManifestName, err)
	}
	defer f.Close()
	m, err := shard.ParseManifest(f)
	if err != nil {
		return v.note(shard.ManifestName, err)
	}
	if m.BLAKE3, err = v.store.BLAKE3(v.entry.Version); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if err := v.note(shard.BLAKE3Name, err); err != nil {
			return err
		}
	}
	v.manifest, v.count = m, len(m.Shards)
	if v.entry.Digest != m.Digest && v.entry.Digest != m.BLAKE3 {
		err := fmt.Errorf("%w: %s instead of %s in %s", shard.ErrDigest, m.Digest, v.entry.Digest, distfile.FileName)
		_ = v.note(shard.ManifestName, err) // it is noted as wrong
	}
	if m.Files == nil {
		return nil
	}
	return v.note(shard.FilesName, v.readFiles())
}

// readFiles reads the list of files.
func (v *verification) readFiles() error {
	f, err := v.store.Files(v.entry.Version)
	if err != nil {
		return err
	}
	defer f.Close()
	t, err := tree.Parse(f, *v.manifest.Files)
	if err != nil {
		return err
	}
	if t.Size() != v.manifest.Size {
		return fmt.Errorf("%w: its files make %d bytes instead of %d", tree.ErrTree, t.Size(), v.manifest.Size)
	}
	v.files = t.Compare()
	return nil
}

// note notes err as wrong of the file name, unless it is nil, or says only that the file
// cannot be read now: then it returns the error.
func (v *verification) note(name string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s/%s: %w", v.entry.Version, name, err)
	for _, wrong := range []error{
		shard.ErrSize, shard.ErrDigest, shard.ErrManifest, tree.ErrTree, fs.ErrNotExist,
	} {
		if errors.Is(err, wrong) {
			v.wrong = append(v.wrong, err)
			return nil
		}
	}
	return err
}

// verifyBuffer in bytes is read at a time.
const verifyBuffer = 256 << 10

// read reads a shard.
func (v *verification) read(number int) error {
	if v.ctx.Err() != nil {
		return context.Cause(v.ctx)
	}
	f, done, err := v.store.Shard(v.entry.Version, number)
	if err != nil {
		v.broken = true
		return v.note(shard.FileName(number), err)
	}
	defer done()
	defer f.Close()
	into := []io.Writer{v.sha256}
	if v.files != nil {
		into = append(into, v.files)
	}
	if v.foreign || v.manifest.BLAKE3 != (shard.Digest{}) {
		into = append(into, v.blake3)
	}
	content := io.TeeReader(f, io.MultiWriter(into...))
	buf := make([]byte, verifyBuffer)
	if v.foreign {
		_, err = io.CopyBuffer(io.Discard, content, buf)
	} else {
		err = v.manifest.Shard(number).Verify(content, buf)
	}
	v.broken = v.broken || err != nil
	return v.note(shard.FileName(number), err)
}

// end compares the digests of the whole.
func (v *verification) end() {
	if v.broken {
		return
	}
	if v.files != nil {
		for _, err := range v.files.Wrong() {
			_ = v.note(shard.FilesName, err) // it is noted as wrong
		}
	}
	got, blake3 := shard.Digest(v.sha256.Sum(nil)), shard.Digest(v.blake3.Sum(nil))
	if want := v.manifest.Digest; got != want && (!v.foreign || blake3 != want) {
		_ = v.note(shard.ManifestName, fmt.Errorf("the whole has a %w: %s instead of %s", shard.ErrDigest, got, want))
	}
	if want := v.manifest.BLAKE3; want != (shard.Digest{}) && want != blake3 {
		_ = v.note(shard.BLAKE3Name, fmt.Errorf("the whole has a %w by BLAKE3: %s instead of %s",
			shard.ErrDigest, blake3, want))
	}
}
