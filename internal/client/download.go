package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/compare"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// A Download describes one download. Entry is required, and Path or Place.
type Download struct {
	// Entry is the version, see package lookup.
	Entry distfile.Entry

	// Path is the output file, or directory of a tree, or a symbolic link to it. Missing
	// directories on the way there are made. Empty means the default name in Dir:
	// download_v1.bin, or for a tree the publisher's name.
	Path, Dir string

	// Named is called with the path of the output when Path is empty and its name is known.
	// Nil is allowed.
	Named func(path string)

	// Place chooses the output in Path's stead, once the manifest is known, and of a tree the list
	// of its files is in Record: base in dir, which the download closes. It is called again when a second
	// manifest replaces the first one. Nil means Path.
	Place func(shard.Manifest) (dir *os.Root, base string, err error)

	// MayReplace is asked right before a directory is replaced, which its error prevents. Nil
	// allows it.
	MayReplace func() error

	// To receives the bytes in order, each shard when it is verified, instead of the output file,
	// of which only the partial file is made. Most servers have to state the digests of shards;
	// where none states any, To receives the bytes when the whole is verified. Nil means the file.
	To io.Writer

	// Files are patterns of the files of a tree to bring, see [tree.Options]. Then the output
	// directory has these files alone, and nothing of other shards is fetched; the digests of
	// shards that most servers state vouch for the bytes, and not that of the whole. Nil means
	// all. A client that shares brings no part.
	Files []string

	part *tree.Part // by Files

	// Patient is that of a [fetch.Task].
	Patient bool

	// Replace replaces a directory at Path, whatever is in it, by a tree. Without it only an
	// empty directory is replaced, and one that a download has put there.
	Replace bool

	// Seeds are where bytes of the version may be already.
	Seeds []Seed

	// Record is a directory, which is made if it is missing, to keep the manifest and the list
	// of files in, for a later download that has this one's output as a [Seed]. Empty keeps
	// nothing.
	Record string

	// Afresh discards the partial file of an earlier download, and replaces a complete file.
	Afresh bool

	// Headway learns whether the download gets on. Nil is allowed.
	Headway *fetch.Headway

	// Progress is called as in [fetch.Task].
	Progress func(fetch.Progress)
}

// Writing is the phase of a download whose verified bytes are written to another writer, after
// those of a fetch.
const Writing = "writing"

// Download downloads a version into a file, and returns its manifest and how the fetch went.
// An output file at Path that has the version's digest already is left as it is. On any error the
// previous file at the path stays as it was, and the partial file is kept for the next download
// of the same version to it, unless no server has the version any more; the error matches [ErrPartial] then.
// Others are those of [fetch.Pool.Fetch] and of the file system.
func (c *Client) Download(ctx context.Context, d Download) (shard.Manifest, fetch.Progress, error) {
	start := time.Now()
	made := d.missingDirectory()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &downloading{client: c, download: d, unnamed: d.Path == "" && d.Place == nil, cancel: cancel}
	m, went, err := c.pool.Fetch(ctx, fetch.Task{
		Entry: d.Entry, Headway: d.Headway, Progress: d.Progress, Patient: d.Patient,
		Audience: func() fetch.Audience {
			if c.sharing == nil {
				return nil
			}
			return r.out.shared
		},
		Rebuild: r.rebuilder,
		Part:    func() map[int]bool { return r.out.needed }, Voted: d.Files != nil || d.To != nil,
		Open: r.open,
	})
	d, out := r.download, r.out
	var have complete
	switch {
	case errors.As(err, &have):
		return c.have(d, have)
	case err == nil && d.To != nil:
		if err = c.write(ctx, d, out, went); err == nil {
			out = nil
			_ = os.Remove(made) // unless it has other files
		}
	case err == nil:
		c.checkTar(d.Entry.Version, m, out)
		err = asLocal(out.commit())
	}
	if out != nil {
		r.piped += out.pipe.end()
	}
	switch {
	case d.To != nil:
		d.Path = "stdout"
	case d.Path == "": // its name is not known yet
		d.Path = d.Dir
	}
	if err := c.end(d, out, went, broken(err, r.piped)); err != nil {
		return shard.Manifest{}, went, fmt.Errorf("download %s to %s: %w", d.Entry.Version, d.Path, err)
	}
	size := m.Size
	if d.Files != nil {
		size = went.Size
	}
	c.logger.Info("downloaded", "version", d.Entry.Version.String(), "file", d.Path, "bytes", size,
		"verified", c.Verified(d), "resumed", went.Resumed, "wasted", went.Wasted, "peers", went.Peers,
		"rebuilt", went.Rebuilt, "delta", went.Delta, "dur", time.Since(start))
	return m, went, nil
}

// What vouches for the bytes of a download.
const (
	VerifiedSigned = "signed" // the publisher's signature, in whole or in part
	VerifiedWhole  = "whole"  // the digest of the whole, as servers list it
	VerifiedShards = "shards" // the digests of its shards, as most servers state them
)

// Verified returns what vouches for the bytes of d once it is done.
func (c *Client) Verified(d Download) string {
	switch {
	case c.pool.Signed():
		return VerifiedSigned
	case d.Files != nil:
		return VerifiedShards
	}
	return VerifiedWhole
}

// downloading is a download while it is fetched.
type downloading struct {
	client   *Client
	download Download
	unnamed  bool // its path follows from the manifest
	cancel   context.CancelCauseFunc
	out      *output
	piped    int64 // bytes that download.To got of earlier outputs
}

// open opens the output for a manifest, in place of that for an earlier one, whose bytes did
// not fit.
func (r *downloading) open(ctx context.Context, m fetch.Manifest) (fetch.Sink, error) {
	d := &r.download
	if r.out != nil {
		r.piped += r.out.pipe.end()
	}
	err := r.client.discard(r.out, true)
	if r.piped > 0 {
		err = errors.Join(errPiped, err)
	}
	d.Afresh = d.Afresh && r.out == nil
	r.out = nil
	if r.unnamed {
		d.Path = filepath.Join(d.Dir, defaultName(d.Entry.Version, m.Stated))
		if d.Named != nil {
			d.Named(d.Path)
		}
	}
	if err == nil {
		r.out, err = r.client.open(ctx, *d, m)
	}
	if err != nil {
		return nil, err
	}
	d.Path = r.out.path()
	if d.To != nil && pipeable(m) {
		r.out.pipe = startPipe(ctx, r.out, m.Stated, d.To, r.cancel)
	}
	return r.out, nil
}

// write writes out, whose fetch went so, to d.To, and discards it.
func (c *Client) write(ctx context.Context, d Download, out *output, went fetch.Progress) error {
	if d.Progress != nil {
		went.Phase = Writing
		d.Progress(went)
	}
	var err error
	if out.pipe != nil {
		err = out.pipe.wait(ctx)
	} else {
		_, err = copyTo(ctx, d.To, io.NewSectionReader(out.content, 0, out.size))
	}
	if err != nil {
		return asLocal(err)
	}
	return c.discard(out, false)
}

// end ends the use of out, if it is not nil, after a download that went so, and ended with err.
func (c *Client) end(d Download, out *output, went fetch.Progress, err error) error {
	switch {
	case out == nil:
		return err
	case err == nil:
		if err := out.close(false); err != nil { // of what was replaced: the version is in place
			c.logger.Warn("replaced directory not removed", "version", d.Entry.Version.String(), "file", out.partial(),
				"err", err, "hint", "remove it by hand")
		}
		return nil
	}
	keep := !out.placed && !errors.Is(err, fetch.ErrNoVersion) && (out.resumed || went.Done > 0)
	err = errors.Join(err, c.discard(out, keep))
	if !keep {
		return err
	}
	c.logger.Info("partial download kept", "version", d.Entry.Version.String(), "file", out.partial(),
		"bytes", went.Done)
	return kept{err}
}

// ErrPartial means that the partial file of a download stays, for the next one of the version to
// the same path.
var ErrPartial = errors.New("partial file kept")

// kept matches [ErrPartial] beside its error.
type kept struct{ error }

// Unwrap returns the error that carries the text.
func (k kept) Unwrap() error { return k.error }

// Is reports whether target is ErrPartial.
func (kept) Is(target error) bool { return target == ErrPartial }

// checkTar warns if out, the file that m describes, is the tar of a directory: servers of before
// there were trees strip that from manifests, so the file is not the directory that was published.
func (c *Client) checkTar(v shard.Version, m shard.Manifest, out *output) {
	if m.Files != nil || !strings.HasSuffix(m.Name, treeSuffix) {
		return
	}
	head := make([]byte, tree.HeaderSize)
	if n, _ := out.content.ReadAt(head, 0); tree.Begins(head[:n]) {
		c.logger.Warn("directory comes as a tar", "version", v.String(), "file", out.path(),
			"hint", "no server states its list of files: extract it with tar, or name a server of this release")
	}
}

// complete is the error that ends a fetch because its file is there already.
type complete struct{ manifest shard.Manifest }

func (complete) Error() string { return "already complete" }

// have ends a download whose file is there already.
func (c *Client) have(d Download, have complete) (shard.Manifest, fetch.Progress, error) {
	m := have.manifest
	c.logger.Info("already complete", "version", d.Entry.Version.String(), "file", d.Path, "bytes", m.Size)
	went := fetch.Progress{Version: d.Entry.Version, Size: m.Size, Done: m.Size, Resumed: m.Size}
	if d.Progress != nil {
		d.Progress(went)
	}
	return m, went, nil
}

// open opens the output file for m, and shares it if the client shares. The error is a complete
// if the file is there already.
func (c *Client) open(ctx context.Context, d Download, of fetch.Manifest) (*output, error) {
	m := of.Stated
	t, err := c.tree(ctx, d, of)
	if err != nil {
		return nil, err
	}
	if d.Files != nil {
		if d.part, err = c.partOf(t, d.Files); err != nil {
			return nil, local{err}
		}
	}
	at, err := c.place(ctx, d, m)
	if err != nil {
		return nil, local{fmt.Errorf("write %s: %w", d.Path, err)}
	}
	partial.Sweep(at.Dir, at.Base, c.logger)
	out, err := create(ctx, at, m, t, d.Afresh)
	if err != nil {
		return nil, local{fmt.Errorf("write %s: %w", d.Path, err)}
	}
	if d.part != nil {
		out.needed = d.part.Shards(m)
	}
	if at.Replace && !d.Afresh { // by a version that may have changed a little
		d.Seeds = append(slices.Clip(d.Seeds), Seed{Path: out.path()})
	}
	if err := c.begin(ctx, d, m, t, out); err != nil {
		return nil, errors.Join(err, c.discard(out, out.resumed))
	}
	if c.sharing == nil {
		return out, nil
	}
	if out.shared, err = c.sharing.begin(out, d.Entry.Version, m, of.Tier); err != nil {
		return nil, errors.Join(err, c.discard(out, out.resumed))
	}
	return out, nil
}

// partOf returns the part of t, which is nil for a file, that patterns choose.
func (c *Client) partOf(t *tree.Tree, patterns []string) (*tree.Part, error) {
	switch {
	case t == nil:
		return nil, errors.New("the version is one file; patterns (--files) choose files of a directory")
	case c.sharing != nil:
		return nil, errors.New("a part of a directory (--files) is not shared with peers; fetch it without a swarm")
	}
	part, err := t.Part(patterns)
	if err != nil {
		return nil, fmt.Errorf("choose files (--files): %w", err)
	}
	return part, nil
}

// tree returns the tree that m describes, or nil if it is a file, and keeps the record.
func (c *Client) tree(ctx context.Context, d Download, m fetch.Manifest) (*tree.Tree, error) {
	list, err := d.record(m.Stated)
	if err != nil {
		return nil, local{fmt.Errorf("write %s: %w", d.Record, err)}
	}
	if m.Stated.Files == nil {
		return nil, nil //nolint:nilnil // it is a file
	}
	return c.pool.Files(ctx, m, list)
}

// directory is the directory of the output.
func (d Download) directory() string {
	if d.Path == "" {
		return d.Dir
	}
	return filepath.Dir(d.Path)
}

// missingDirectory is the directory of the output, and empty if it exists.
func (d Download) missingDirectory() string {
	dir := d.directory()
	if _, err := os.Lstat(dir); err == nil {
		return ""
	}
	return dir
}

// place returns the place of the output for m, where it may get its name in the end.
func (c *Client) place(ctx context.Context, d Download, m shard.Manifest) (to partial.Target, err error) {
	to.MayReplace, to.Part = d.MayReplace, d.part
	if d.Place != nil {
		to.Dir, to.Base, err = d.Place(m)
	} else {
		if m.Files != nil {
			d.Path = strings.TrimRight(d.Path, string(filepath.Separator))
		}
		to.Dir, to.Base, err = openPlace(d.Path)
	}
	if err != nil || d.To != nil {
		return to, err
	}
	if m.Files != nil {
		if err = partial.Settle(to.Dir, to.Base); err == nil {
			to.Replace, err = partial.CheckTree(to.Dir, to.Base, d.Replace)
		}
	} else {
		err = disk.CheckPlace(to.Dir, to.Base)
	}
	if d.Place == nil && !d.Afresh && c.sharing == nil {
		if same := c.isComplete(ctx, d, m, to.Dir, to.Base); same != nil {
			err = same // also where it may not be replaced
		}
	}
	if err != nil {
		return partial.Target{}, errors.Join(err, to.Dir.Close())
	}
	return to, nil
}

// isComplete returns a complete if the file base in dir is the one that m describes, and nil if
// it is another one.
func (c *Client) isComplete(ctx context.Context, d Download, m shard.Manifest, dir *os.Root, base string) error {
	logger := c.logger.With("version", d.Entry.Version.String())
	if m.Files != nil {
		full := filepath.Join(dir.Name(), base)
		same := d.part == nil && m.Digest == d.Entry.Digest && compare.IsTree(ctx, full, m, logger) ||
			d.part != nil && compare.IsPart(ctx, full, d.part, logger)
		if same {
			return complete{m}
		}
		return context.Cause(ctx)
	}
	m.Digest = d.Entry.Digest // by which the file is right, whatever other digest the manifest states
	same, err := compare.File{Dir: dir, Name: base, Manifest: m, Logger: logger}.Run(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil || same == nil:
		return nil //nolint:nilerr // one that cannot be read is replaced
	}
	m.Digest, m.Size = same.Digest, same.Info.Size()
	return complete{m}
}

// discard ends the use of out without a file of its final name, and keeps the partial file
// if keep is set. A nil out is allowed.
func (c *Client) discard(out *output, keep bool) error {
	if out == nil {
		return nil
	}
	var err error
	if out.shared != nil {
		err = c.sharing.failed(out.shared)
	}
	return errors.Join(err, out.close(keep))
}
