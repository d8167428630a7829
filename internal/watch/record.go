package watch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// maxGone bounds the files in the record that are gone: if they come back as they were after
// that many others, the origin broadcasts them again.
const maxGone = 10_000

// record lists the files and directories of a watched directory that were broadcast. It is watched.json of
// the data directory, written before a version is published and after. After a crash
// between the two, the listing decides whether the version was published.
type record struct {
	Files map[string]taken `json:"files"` // by name
}

// taken is a file or directory that has been broadcast.
type taken struct {
	Size    int64        `json:"size"`            // see likeness
	Mtime   int64        `json:"mtime"`           // likewise
	Inode   uint64       `json:"inode,omitempty"` // likewise
	Tree    shard.Digest `json:"tree,omitzero"`   // likewise
	Version string       `json:"version"`
	Digest  shard.Digest `json:"digest"`

	// Undecided means that the version was about to be published.
	Undecided bool `json:"undecided,omitempty"`

	before *taken // of the same name, while it is undecided
}

func (t taken) looks() likeness { return likeness{t.Size, t.Mtime, t.Inode, t.Tree} }

// readRecord reads the record of st, of which this process is the one server.
func readRecord(st *store.Store) (*record, error) {
	text, err := st.Watched()
	if errors.Is(err, fs.ErrNotExist) {
		text, err = []byte("{}"), nil
	}
	var r *record
	if err == nil {
		r, err = parseRecord(text)
	}
	if err != nil {
		return nil, fmt.Errorf("the record of files that were broadcast, %s/.shardcast/watched.json: %w; "+
			"remove it, and all files of the watched directory are broadcast again", st.Dir(), err)
	}
	listed, err := st.Distribution()
	if err != nil {
		return nil, err
	}
	for name, t := range r.Files {
		if t.Undecided {
			r.decide(name, slices.ContainsFunc(listed, func(e distfile.Entry) bool {
				return e.Version.String() == t.Version && e.Digest == t.Digest
			}))
		}
	}
	return r, nil
}

// parseRecord parses the text of a record, and refuses files whose version is none.
func parseRecord(text []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	for name, t := range r.Files {
		if _, err := shard.ParseVersion(t.Version); err != nil {
			return nil, fmt.Errorf("file %.80q: %w", name, err)
		}
	}
	if r.Files == nil {
		r.Files = make(map[string]taken)
	}
	return &r, nil
}

// has reports whether the file name was broadcast as it looks now.
func (r *record) has(name string, now likeness) bool {
	t, ok := r.Files[name]
	return ok && t.looks() == now
}

// begin writes that the file f is about to be published.
func (r *record) begin(st *store.Store, f candidate, version shard.Version, digest shard.Digest) error {
	t := taken{
		Size: f.looks.size, Mtime: f.looks.mtime, Inode: f.looks.inode, Tree: f.looks.tree,
		Version: version.String(), Digest: digest, Undecided: true,
	}
	if before, ok := r.Files[f.name]; ok {
		t.before = &before
	}
	r.Files[f.name] = t
	return r.write(st)
}

// settle writes whether the file name, which was about to be published, was published.
func (r *record) settle(st *store.Store, name string, published bool) error {
	r.decide(name, published)
	return r.write(st)
}

// decide makes the file name, which was about to be published, one that was published, or
// was not.
func (r *record) decide(name string, published bool) {
	t := r.Files[name]
	switch {
	case published:
		t.Undecided, t.before = false, nil
		r.Files[name] = t
	case t.before != nil:
		r.Files[name] = *t.before
	default:
		delete(r.Files, name)
	}
}

// forget drops the files that are gone and were broadcast first, if there are too many.
func (r *record) forget(there func(name string) bool) {
	var gone []string
	for name := range r.Files {
		if !there(name) {
			gone = append(gone, name)
		}
	}
	if len(gone) <= maxGone {
		return
	}
	// A longer number is a higher one.
	slices.SortFunc(gone, func(a, b string) int {
		va, vb := r.Files[a].Version, r.Files[b].Version
		if len(va) != len(vb) {
			return len(va) - len(vb)
		}
		return strings.Compare(va, vb)
	})
	for _, name := range gone[:len(gone)-maxGone] {
		delete(r.Files, name)
	}
}

func (r *record) write(st *store.Store) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return st.SetWatched(append(text, '\n'))
}
