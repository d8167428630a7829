package follow

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
	"github.com/shardcast/shardcast/internal/shard"
)

// hidden is the directory, in the output directory, of a follow's own files.
const hidden = ".shardcast-follow"

// The files in it, with the temporary names that they and the link have at first.
const (
	recordName = hidden + "/versions.json"
	recordTemp = hidden + "/versions.json.tmp"
	lockName   = hidden + "/lock"
	linkTemp   = hidden + "/link"
)

const (
	// maxRecord bounds a record in bytes: many times the size of a record of 10,000 versions.
	maxRecord = 64 << 20

	// maxKnown is the number of past versions' digests in a record. They distinguish an origin
	// that has started over from servers that lag behind, which lag by few versions.
	maxKnown = 200
)

// record is the state of a follow. It is written before each change that it describes, so a
// file that is on the disk and not in the record is foreign.
type record struct {
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
	Known []known `json:"known"`

	// Delivered are the last versions that were, by each digest under which they were on offer.
	Delivered []known `json:"delivered,omitempty"`

	// Withdrawn are versions that were delivered and then declared bad.
	Withdrawn []known `json:"withdrawn,omitempty"`

	// Begun is the file that is being downloaded, or nil.
	Begun *file `json:"begun,omitempty"`

	// Held are the files that are here, in the order in which they came.
	Held []file `json:"held"`

	// Leaving are the trees that are being removed.
	Leaving []file `json:"leaving,omitempty"`

	// Dirs are the directories that were made for them.
	Dirs []string `json:"dirs"`

	// Link is the symbolic link that was made, or empty.
	Link string `json:"link,omitempty"`
}

// known is a version's digest.
type known struct {
	Version shard.Version `json:"version"`
	Digest  shard.Digest  `json:"digest"`
}

// file is a version's file in the output directory, or the directory of a tree, of whose files
// there is a list beside the record.
type file struct {
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

// is reports whether f is the file that e offers.
func (f file) is(e distfile.Entry) bool {
	return f.Version == e.Version && (f.Manifest.Digest == e.Digest || f.Offered == e.Digest)
}

// entry is how f was on offer.
func (f file) entry() distfile.Entry {
	return distfile.Entry{Version: f.Version, Digest: f.Manifest.Digest}
}

// readRecord reads the record in the output directory root, or an empty one if there is none.
func readRecord(root *os.Root) (record, error) {
	var r record
	text, err := disk.ReadFile(root, recordName, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err == nil {
		r, err = parseRecord(text)
	}
	if err != nil {
		name := filepath.Join(root.Name(), filepath.FromSlash(recordName))
		return record{}, fmt.Errorf("the record %s: %w; remove it, and files that are here count as foreign and stay",
			name, err)
	}
	return r, nil
}

// parseRecord parses the text of a record, of which all paths are those of files below the
// output directory.
func parseRecord(text []byte) (record, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, err
	}
	if r.Last > shard.MaxVersion {
		return record{}, fmt.Errorf("%s is not a version", r.Last)
	}
	paths := slices.Clone(r.Dirs)
	for _, f := range r.files() {
		if f.Version == 0 || f.Version > shard.MaxVersion {
			return record{}, fmt.Errorf("%q has the version %s", f.Path, f.Version)
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
		if !fs.ValidPath(path) || path == "." || isOurs(path) {
			return record{}, fmt.Errorf("%.80q is not the path of a file that was delivered here", path)
		}
	}
	return r, nil
}

// write replaces the record in the output directory root.
func (r *record) write(root *os.Root) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return disk.WriteFile(root, recordTemp, recordName, append(text, '\n'), 0o600)
}

// files are the files that are here, arriving or being removed.
func (r *record) files() []file {
	all := slices.Concat(r.Held, r.Leaving)
	if r.Begun != nil {
		all = append(all, *r.Begun)
	}
	return all
}

// uses reports whether the path of a file leads through the directory dir.
func (r *record) uses(dir string) bool {
	return slices.ContainsFunc(r.files(), func(f file) bool { return strings.HasPrefix(f.Path, dir+"/") })
}

// at is the index of the held file at a path, or -1.
func (r *record) at(path string) int {
	return slices.IndexFunc(r.Held, func(f file) bool { return f.Path == path })
}

// put adds a file that has come, in place of the file that was at its path.
func (r *record) put(f file) {
	r.Begun = nil
	r.Held = append(slices.DeleteFunc(r.Held, func(o file) bool { return o.Path == f.Path }), f)
}

// holds reports whether e is here and was delivered.
func (r *record) holds(e distfile.Entry) bool {
	return slices.ContainsFunc(r.Held, func(f file) bool { return f.Delivered && f.is(e) })
}

// undelivered is the first file that is here and was not delivered.
func (r *record) undelivered() (f file, ok bool) {
	if i := slices.IndexFunc(r.Held, func(f file) bool { return !f.Delivered }); i >= 0 {
		return r.Held[i], true
	}
	return file{}, false
}

// delivered notes that f was delivered, while offers were on offer.
func (r *record) delivered(f file, offers []distfile.Entry) {
	if i := r.at(f.Path); i >= 0 {
		r.Held[i].Delivered = true
	}
	for _, k := range []known{{f.Version, f.Manifest.Digest}, {f.Version, f.Offered}} {
		if !slices.Contains(r.Delivered, k) {
			r.Delivered = append(r.Delivered, k)
		}
	}
	r.Delivered = slices.Delete(r.Delivered, 0, max(0, len(r.Delivered)-maxKnown))
	r.Last = max(r.Last, f.Version) // one that others need may come late
	r.learn(append(slices.Clone(offers),
		distfile.Entry{Version: f.Version, Digest: f.Manifest.Digest},
		distfile.Entry{Version: f.Version, Digest: f.Offered}))
}

// learn notes the digests of the offers up to the last version.
func (r *record) learn(offers []distfile.Entry) {
	for _, o := range offers {
		k := known{o.Version, o.Digest}
		if o.Version <= r.Last && !slices.Contains(r.Known, k) {
			r.Known = append(r.Known, k)
		}
	}
	slices.SortStableFunc(r.Known, func(a, b known) int { return cmp.Compare(a.Version, b.Version) })
	r.Known = slices.Delete(r.Known, 0, max(0, len(r.Known)-maxKnown))
}

// startOver notes that numbers have begun again, with what is on offer.
func (r *record) startOver(offers []distfile.Entry) {
	r.Last, r.Over, r.Known, r.Delivered, r.Run = 0, true, nil, nil, nil
	for _, o := range offers {
		if r.holds(o) {
			r.Last = o.Version
		}
	}
	for i := range r.Held {
		f := &r.Held[i]
		f.Before = f.Before || !slices.ContainsFunc(offers, f.is)
	}
	r.learn(offers)
}
