package server

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/wire"
)

// A Dialect is how the Python package has spoken from some release on.
type Dialect int

// The dialects.
const (
	// Dialect01 is that of 0.1, and ours: a version is known by the SHA-256 of its file.
	Dialect01 Dialect = iota

	// Dialect03 is that of 0.3: it is known by the BLAKE3, and by how many shards it has.
	Dialect03

	dialects // how many there are
)

// ParseDialect returns the dialect of a release, "0.1" or "0.3". An empty name is 0.1.
func ParseDialect(name string) (Dialect, error) {
	switch name {
	case "", "0.1":
		return Dialect01, nil
	case "0.3":
		return Dialect03, nil
	default:
		return 0, fmt.Errorf("dialect %.40q, want 0.1 or 0.3", name)
	}
}

// spoken returns the dialect in which path is answered, and what is left of path
// without the part that says so. What is left does not begin with a slash, of which
// there may be more than one: a Python client that is given http://host/ asks for
// //distribution.txt.
func (h *handler) spoken(path string) (Dialect, string) {
	path = strings.TrimLeft(path, "/")
	if rest, ok := strings.CutPrefix(path, wire.Python01+"/"); ok {
		return Dialect01, strings.TrimLeft(rest, "/")
	}
	if rest, ok := strings.CutPrefix(path, wire.Python03+"/"); ok {
		return Dialect03, strings.TrimLeft(rest, "/")
	}
	return h.dialect, path
}

// inDialect returns what the listing's dialect says of offers, of which those in
// arriving are not held yet. What it cannot say is left out.
func (l *listing) inDialect(offers, arriving []distfile.Entry) ([]distfile.Entry, error) {
	if l.dialect == Dialect01 {
		for i := range offers {
			offers[i].Count = 0
		}
		return offers, nil
	}
	var said []distfile.Entry
	files := make(map[shard.Version]known, len(offers))
	for _, e := range offers {
		file := l.heldFile
		_, arrives := slices.BinarySearchFunc(arriving, e, byVersion)
		if arrives {
			file = l.arrivingFile
		}
		k, err := file(e, l.files[e.Version])
		switch {
		case err == nil:
			files[e.Version] = k
			if k.is(e) && k.blake3 != (shard.Digest{}) {
				said = append(said, distfile.Entry{Version: e.Version, Digest: k.blake3, Count: k.count})
			}
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case !arrives && l.store.Holds(e.Version): // or it has just been taken away
			said = append(said, e) // another program's, in whichever dialect
		}
	}
	l.files = files
	return said, nil
}

// known is what a manifest says that [Dialect03] needs, or nothing.
type known struct {
	manifest       fs.FileInfo // from which it is known, or nil
	digest, blake3 shard.Digest
	count          int
}

func knownFrom(m shard.Manifest) known {
	return known{digest: m.Digest, blake3: m.BLAKE3, count: len(m.Shards)}
}

// is reports whether it is known of the file that e is.
func (k known) is(e distfile.Entry) bool {
	return e.Digest == k.digest || e.Digest == k.blake3
}

// heldFile returns what is known of e, which is held, where before was known. The error
// matches [fs.ErrNotExist] if there is no manifest.
func (l *listing) heldFile(e distfile.Entry, before known) (known, error) {
	f, err := l.store.Manifest(e.Version)
	if err != nil {
		return known{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return known{}, err
	}
	if before.manifest != nil && sameFile(before.manifest, info) {
		return before, nil
	}
	m, err := shard.ParseManifest(f)
	if err != nil && !errors.Is(err, shard.ErrManifest) {
		return known{}, err
	}
	k := knownFrom(m) // nothing, from a bad one
	k.manifest = info
	return k, nil
}

// arrivingFile returns what is known of e, which is arriving, where before was known.
// The error matches [fs.ErrNotExist] if it is a draft without a manifest.
func (l *listing) arrivingFile(e distfile.Entry, before known) (known, error) {
	if v := l.board.Version(e.Version); v != nil && v.HasDigests() {
		return knownFrom(v.Manifest), nil
	}
	// While nobody brings it, it is what it was, also in an earlier run.
	if before.is(e) {
		return before, nil
	}
	drafts, err := l.store.Drafts()
	for _, d := range drafts {
		if d.Version() == e.Version {
			m, err := d.Manifest()
			if errors.Is(err, shard.ErrManifest) {
				err = nil
			}
			return knownFrom(m), err
		}
	}
	return known{}, err
}
