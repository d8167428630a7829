package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/reuse"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// rebuilder fills an output by a delta, whose base is one of the seeds.
type rebuilder struct {
	out    *output
	client *Client
	of     Download

	digests map[string]base // of the seeds that were read, by their paths
	deltas  []*output       // where deltas arrive
	last    *output         // the one of them that the output is made by, if peers read it, or nil
	shared  partial.Reader  // of its bytes, for them
}

// base is what is known of a seed.
type base struct {
	digest shard.Digest
	size   int64
	tree   *tree.Tree // or nil, if it is a file
}

// rebuilder returns what fills the output by a delta, or nil if it is empty or a part.
func (r *downloading) rebuilder() fetch.Rebuilder {
	d := r.download
	if len(r.out.seeds) == 0 || r.out.needed != nil {
		return nil
	}
	d.Seeds = r.out.seeds
	return &rebuilder{out: r.out, client: r.client, of: d, digests: make(map[string]base)}
}

// WriteAt writes to the output.
func (r *rebuilder) WriteAt(p []byte, offset int64) (int, error) {
	return r.out.content.WriteAt(p, offset)
}

// There returns what an earlier download may have written, and what the seeds have.
func (r *rebuilder) There() (there []disk.Range, err error) {
	if r.out.resumed {
		there, err = r.out.content.Written(0, r.out.size)
	}
	for _, known := range r.out.known.Known() {
		there = reuse.Union(there, known)
	}
	return there, err
}

// Base returns the seed of that digest. One without a record is read for that.
func (r *rebuilder) Base(ctx context.Context, digest shard.Digest) (fetch.Base, error) {
	defer r.of.Headway.Pause()() // reading takes a while, and no server
	var failed error
	for _, seed := range r.of.Seeds {
		is, ok := r.digests[seed.Path]
		if !ok {
			var err error
			if is, err = seed.base(ctx); err != nil {
				failed = errors.Join(failed, err)
			}
			r.digests[seed.Path] = is
		}
		if is.digest != digest {
			continue
		}
		found, err := is.open(seed.Path)
		if err == nil {
			return found, nil
		}
		failed = errors.Join(failed, err)
	}
	if ctx.Err() != nil {
		failed = context.Cause(ctx)
	}
	if errors.Is(failed, os.ErrNotExist) {
		failed = nil // such as a version that was removed meanwhile
	}
	return nil, failed
}

// base returns what the record of the seed says, or what its bytes are.
func (s Seed) base(ctx context.Context) (base, error) {
	if s.Record != "" {
		m, t, err := readRecord(s.Record, shard.MaxFiles)
		return base{m.Digest, m.Size, t}, err
	}
	info, err := os.Stat(s.Path)
	switch {
	case err != nil:
		return base{}, err
	case info.IsDir():
		return directoryBase(ctx, s.Path)
	case !info.Mode().IsRegular():
		return base{}, nil
	}
	f, err := openBase(s.Path)
	if err != nil {
		return base{}, err
	}
	defer f.Close()
	digest := sha256.New()
	size, err := copyTo(ctx, digest, f)
	return base{digest: shard.Digest(digest.Sum(nil)), size: size}, err
}

// directoryBase reads a directory as a tree.
func directoryBase(ctx context.Context, path string) (base, error) {
	source, err := tree.Open(path, tree.Options{})
	if err != nil {
		return base{}, err
	}
	defer source.Close()
	digest := sha256.New()
	size, err := copyTo(ctx, digest, source)
	if err != nil {
		return base{}, err
	}
	t, err := source.Tree()
	return base{shard.Digest(digest.Sum(nil)), size, t}, err
}

// openBase opens the regular file at path, whose links are followed.
func openBase(path string) (*os.File, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Dir(real))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return disk.OpenRegular(root, filepath.Base(real))
}

// open opens the seed at path. What has changed there since shows in the shards that are made.
func (b base) open(path string) (fetch.Base, error) {
	if b.tree == nil {
		f, err := openBase(path)
		if err != nil {
			return nil, err
		}
		return baseStream{f, f, b.size}, nil
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	files := tree.NewReader(root, b.tree)
	return baseStream{files, files, b.size}, nil
}

// baseStream is a base that is open.
type baseStream struct {
	io.ReaderAt
	io.Closer

	size int64
}

// Size is that of the stream, in bytes.
func (b baseStream) Size() int64 { return b.size }

// deltaSuffix is added to the name of an output for that of its delta, whose partial file is all that there is of it.
const deltaSuffix = ".delta"

// deltaName is that name, with the number of a delta that comes before, or 0.
func deltaName(base string, number int) string {
	if number == 0 {
		return base + deltaSuffix
	}
	return fmt.Sprintf("%s%s%d", base, deltaSuffix, number)
}

// RemovePartial removes the partial files of a download to the name base in dir, if there are any that a
// download has made. It fails while a download uses one.
func RemovePartial(dir *os.Root, base string) error {
	for number := range fetch.MostSteps {
		if err := partial.Remove(dir, deltaName(base, number)); err != nil {
			return err
		}
	}
	return partial.Remove(dir, base)
}

// Delta opens a hidden file for the bytes of the delta, beside that of the version, with what an earlier process has
// left of it, and shares it if the output is shared. From now on the output has bytes.
func (r *rebuilder) Delta(
	ctx context.Context, line shard.Delta, m shard.DeltaManifest, _ []byte, tier int,
) (fetch.Sink, fetch.Audience, error) {
	content := m.Content()
	o, err := r.open(ctx, 0, content)
	if err != nil || r.out.shared == nil {
		return o, nil, err
	}
	if r.shared, err = o.content.Share(); err != nil {
		return nil, nil, err
	}
	e := distfile.Entry{Version: r.of.Entry.Version, Digest: m.Digest}
	o.shared = relay.NewBoard().Begin(e, content, tier, partsOf(r.shared, content))
	r.out.shared.BringDelta(line.Base, o.shared)
	r.last = o
	return o, o.shared, nil
}

// Relay returns none: a client passes nothing on that it has no use for.
func (r *rebuilder) Relay() (line shard.Delta, ok bool) { return line, false }

// Between opens such a file for a delta that comes before.
func (r *rebuilder) Between(ctx context.Context, number int, m shard.Manifest) (fetch.Sink, error) {
	return r.open(ctx, number, m)
}

func (r *rebuilder) open(ctx context.Context, number int, m shard.Manifest) (*output, error) {
	to := partial.Target{Dir: r.out.dir, Base: deltaName(r.out.base, number)}
	content, resumed, err := partial.Open(ctx, to, m, nil, false)
	if err == nil {
		if err = content.Begin(0); err != nil {
			err = errors.Join(err, content.End(resumed))
		}
	}
	if err != nil {
		return nil, err
	}
	o := &output{content: content, size: m.Size, resumed: resumed}
	r.deltas = append(r.deltas, o)
	return o, nil
}

// EndDelta closes the files, and leaves the bytes of a whole delta to peers for as long as they can read the output.
// What has come is of use to the next download, if this one ends before its end.
func (r *rebuilder) EndDelta(err error) {
	if r.last != nil && (err != nil || !r.client.sharing.keep(r.out.shared, r.shared)) {
		r.out.shared.NoDelta()
		r.last.shared.End()
		_ = r.shared.Close() // that was for reading
	}
	for _, o := range r.deltas {
		_ = o.content.End(err != nil) // nothing of it is of use to this download any more
	}
}
