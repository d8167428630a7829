// Package record keeps the record of a directory of versions: which of them were delivered, which files there are
// ours, and which arrive or leave. It is a value, and the file .shardcast-follow/versions.json, in JSON: it looks at no
// other file, and asks no server. A path in a record leads to no file of our own, and not out of the directory.
package record

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/shard"
)

// Hidden is the directory, in the output directory, of a follow's own files.
const Hidden = ".shardcast-follow"

// The record in it, with the temporary name that it has at first.
const (
	recordName = Hidden + "/versions.json"
	recordTemp = Hidden + "/versions.json.tmp"
)

// GoneSuffix ends the hidden name that a tree has, in its directory, while it is removed.
const GoneSuffix = ".shardcast-gone"

// IsOurs reports whether a path is that of a file of ours, which is not to stay.
func IsOurs(file string) bool {
	first, _, _ := strings.Cut(file, "/")
	return first == Hidden || strings.HasSuffix(file, partial.Suffix) || strings.HasSuffix(file, GoneSuffix)
}

const (
	// maxRecord bounds a record in bytes: many times the size of a record of 10,000 versions.
	maxRecord = 64 << 20

	// maxKnown is the number of past versions' digests in a record. They distinguish an origin
	// that has started over from servers that lag behind, which lag by few versions.
	maxKnown = 200
)

// A Record is the state of a follow. It is written before each change that it describes, so a
// file that is on the disk and not in the record is foreign.
type Record struct {
	// Last is the highest version that was delivered, or 0.
	Last shard.Version `json:"last"`

	// Epoch is that of the last release by which versions were taken, or 0 without one. Numbers
	// begin again in a higher one.
	Epoch uint64 `json:"epoch,omitempty"`

	// Run is the run that is followed by lineage, or nil before the first one.
	Run *string `json:"run,omitempty"`

	// Over is set once an origin has started over, so that numbers begin with 1 again.
	Over bool `json:"over,omitempty"`

	// Known are versions up to Last, as they were offered.
	Known []Known `json:"known"`

	// Delivered are the last versions that were, by each digest under which they were on offer.
	Delivered []Known `json:"delivered,omitempty"`

	// Withdrawn are versions that were delivered and then declared bad.
	Withdrawn []Known `json:"withdrawn,omitempty"`

	// Begun is the file that is being downloaded, or nil.
	Begun *File `json:"begun,omitempty"`

	// Held are the files that are here, in the order in which they came.
	Held []File `json:"held"`

	// Leaving are the trees that are being removed.
	Leaving []File `json:"leaving,omitempty"`

	// Dirs are the directories that were made for them.
	Dirs []string `json:"dirs"`

	// Link is the symbolic link that was made, or empty.
	Link string `json:"link,omitempty"`
}

// Known is a version's digest.
type Known struct {
	Version shard.Version `json:"version"`
	Digest  shard.Digest  `json:"digest"`
}

// A File is a version's file in the output directory, or the directory of a tree, of whose files
// there is a list beside the record.
type File struct {
	Version shard.Version `json:"version"`

	// Manifest is the version's, without the shards, of which Shards is the number.
	Manifest shard.Manifest `json:"manifest"`
	Shards   int            `json:"shard_count"`

	// Offered is the digest by which it was on offer: the manifest's, or its BLAKE3.
	Offered shard.Digest `json:"offered"`

	// Path is the file's, and Marker that of the marker beside it, or empty if there is none
	// of ours. Both have slashes.
	Path   string `json:"path"`
	Marker string `json:"marker,omitempty"`

	// Modified is the file's modification time in nanoseconds since 1970, by which it is
	// recognised; the files of a tree have theirs in its list.
	Modified int64 `json:"modified"`

	// Found is set if the file was there before the follow, so it is never removed.
	Found bool `json:"found,omitempty"`

	// Delivered is set once the caller has received it.
	Delivered bool `json:"delivered"`

	// Before is set if numbers have begun again since, and it was not on offer then: no version from then on needs it.
	Before bool `json:"before,omitempty"`
}

// Is reports whether f is the file that e offers.
func (f File) Is(e distfile.Entry) bool {
	return f.Version == e.Version && (f.Manifest.Digest == e.Digest || f.Offered == e.Digest)
}

// Entry is how f was on offer.
func (f File) Entry() distfile.Entry {
	return distfile.Entry{Version: f.Version, Digest: f.Manifest.Digest}
}

// IsTree reports whether f is a directory.
func (f File) IsTree() bool { return f.Manifest.Files != nil }

// Read reads the record in the output directory root, or an empty one if there is none.
func Read(root *os.Root) (Record, error) {
	var r Record
	text, err := disk.ReadFile(root, recordName, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	if err == nil {
		r, err = parse(text)
	}
	if err != nil {
		name := filepath.Join(root.Name(), filepath.FromSlash(recordName))
		return Record{}, fmt.Errorf("the record %s: %w; remove it, and files that are here count as foreign and stay",
			name, err)
	}
	return r, nil
}

// parse parses the text of a record, of which all paths are those of files below the
// output directory.
func parse(text []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return Record{}, err
	}
	if r.Last > shard.MaxVersion {
		return Record{}, fmt.Errorf("%s is not a version", r.Last)
	}
	paths := slices.Clone(r.Dirs)
	for _, f := range r.Files() {
		if f.Version == 0 || f.Version > shard.MaxVersion {
			return Record{}, fmt.Errorf("%q has the version %s", f.Path, f.Version)
		}
		paths = append(paths, f.Path)
		if f.Marker != "" {
			paths = append(paths, f.Marker)
		}
	}
	if r.Link != "" {
		paths = append(paths, r.Link)
	}
	for _, path := range paths {
		if !fs.ValidPath(path) || path == "." || IsOurs(path) {
			return Record{}, fmt.Errorf("%.80q is not the path of a file that was delivered here", path)
		}
	}
	return r, nil
}

// Write replaces the record in the output directory root.
func (r *Record) Write(root *os.Root) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return disk.WriteFile(root, recordTemp, recordName, append(text, '\n'), 0o600)
}

// Files are the files that are here, arriving or being removed.
func (r *Record) Files() []File {
	all := slices.Concat(r.Held, r.Leaving)
	if r.Begun != nil {
		all = append(all, *r.Begun)
	}
	return all
}

// Uses reports whether the path of a file leads through the directory dir.
func (r *Record) Uses(dir string) bool {
	return slices.ContainsFunc(r.Files(), func(f File) bool { return strings.HasPrefix(f.Path, dir+"/") })
}

// At is the index of the held file at a path, or -1.
func (r *Record) At(path string) int {
	return slices.IndexFunc(r.Held, func(f File) bool { return f.Path == path })
}

// Put adds a file that has come, in place of the file that was at its path.
func (r *Record) Put(f File) {
	r.Begun = nil
	r.Held = append(slices.DeleteFunc(r.Held, func(o File) bool { return o.Path == f.Path }), f)
}

// Holds reports whether e is here and was delivered.
func (r *Record) Holds(e distfile.Entry) bool {
	return slices.ContainsFunc(r.Held, func(f File) bool { return f.Delivered && f.Is(e) })
}

// Undelivered is the first file that is here and was not delivered.
func (r *Record) Undelivered() (f File, ok bool) {
	if i := slices.IndexFunc(r.Held, func(f File) bool { return !f.Delivered }); i >= 0 {
		return r.Held[i], true
	}
	return File{}, false
}

// Deliver notes that f was delivered, while offers were on offer.
func (r *Record) Deliver(f File, offers []distfile.Entry) {
	if i := r.At(f.Path); i >= 0 {
		r.Held[i].Delivered = true
	}
	for _, k := range []Known{{f.Version, f.Manifest.Digest}, {f.Version, f.Offered}} {
		if !slices.Contains(r.Delivered, k) {
			r.Delivered = append(r.Delivered, k)
		}
	}
	r.Delivered = slices.Delete(r.Delivered, 0, max(0, len(r.Delivered)-maxKnown))
	r.Last = max(r.Last, f.Version) // one that others need may come late
	r.Learn(append(slices.Clone(offers),
		distfile.Entry{Version: f.Version, Digest: f.Manifest.Digest},
		distfile.Entry{Version: f.Version, Digest: f.Offered}))
}

// WasDelivered reports whether e was delivered, also if it has gone since.
func (r *Record) WasDelivered(e distfile.Entry) bool {
	return slices.Contains(r.Delivered, Known{e.Version, e.Digest})
}

// Learn notes the digests of the offers up to the last version.
func (r *Record) Learn(offers []distfile.Entry) {
	for _, o := range offers {
		k := Known{o.Version, o.Digest}
		if o.Version <= r.Last && !slices.Contains(r.Known, k) {
			r.Known = append(r.Known, k)
		}
	}
	slices.SortStableFunc(r.Known, func(a, b Known) int { return cmp.Compare(a.Version, b.Version) })
	r.Known = slices.Delete(r.Known, 0, max(0, len(r.Known)-maxKnown))
}

// StartOver notes that numbers have begun again, with what is on offer.
func (r *Record) StartOver(offers []distfile.Entry) {
	r.Last, r.Over, r.Known, r.Delivered, r.Run = 0, true, nil, nil, nil
	for _, o := range offers {
		if r.Holds(o) {
			r.Last = o.Version
		}
	}
	for i := range r.Held {
		f := &r.Held[i]
		f.Before = f.Before || !slices.ContainsFunc(offers, f.Is)
	}
	r.Learn(offers)
}

// GoBack notes that the last version was withdrawn, and that to comes next: delivered once
// more if it is here, and fetched otherwise.
func (r *Record) GoBack(to distfile.Entry) {
	for _, k := range r.Known {
		if k.Version == r.Last && !slices.Contains(r.Withdrawn, k) {
			r.Withdrawn = append(r.Withdrawn, k)
		}
	}
	r.Withdrawn = slices.Delete(r.Withdrawn, 0, max(0, len(r.Withdrawn)-maxKnown))
	r.Last = to.Version - 1
	i := slices.IndexFunc(r.Held, func(f File) bool { return f.Is(to) })
	if i < 0 {
		return
	}
	f := r.Held[i]
	f.Delivered = false
	r.Held = append(slices.Delete(r.Held, i, i+1), f) // the last one to be removed
}

// IsWithdrawn reports whether e was withdrawn after it had been delivered.
func (r *Record) IsWithdrawn(e distfile.Entry) bool {
	return slices.Contains(r.Withdrawn, Known{e.Version, e.Digest})
}
