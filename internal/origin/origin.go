// Package origin publishes files as versions in a data directory, and serves that directory.
// It refuses to know flags, readers, and which files are complete. A file that changes while it is cut is never
// published, and of a broadcast that fails or is killed nothing is ever listed.
package origin

import (
	"bufio"
	"cmp"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/tree"
)

// An Origin publishes into one data directory. Its methods may be called from any goroutine,
// and by several processes at once.
type Origin struct {
	store     *store.Store
	shardSize int64
	keep      atomic.Int64 // versions, for the settings of the directory; 0 once they have it
	logger    *slog.Logger
}

// New returns an Origin that cuts shards of shardSize bytes, or of [shard.AutoSize] if that
// is 0, into st. It makes keep the number of versions that the directory keeps when it first
// uses it, see [policy.Settings]; 0 leaves that number as it is.
func New(st *store.Store, shardSize int64, keep int, logger *slog.Logger) *Origin {
	st.LogTo(logger)
	o := &Origin{store: st, shardSize: shardSize, logger: logger}
	o.keep.Store(int64(keep))
	return o
}

// Options describe what is broadcast. The zero value is a good one.
type Options struct {
	// Name is the version's, and empty for that of the file or directory.
	Name string

	// Labels are the version's, see [shard.CheckLabel], and Lineage is its place in a run.
	Labels  map[string]string
	Lineage Lineage

	// DeltaBases is from how many of the newest versions deltas are made, [shard.MaxDeltas] at most.
	// Zero means as many as the data directory says, and a negative number none.
	DeltaBases int

	// Tree says what of a directory is published. A file has none of it.
	Tree tree.Options

	// OMSKey signs the files of a directory: the tree has that signature as model.sig, see package
	// oms. Nil signs nothing.
	OMSKey *ecdsa.PrivateKey

	// Input is read if the path is "-".
	Input io.Reader

	// InputSize is the number of bytes that the Input has to have. Zero means any.
	InputSize int64

	// Progress is called four times a second, and once in the end, never twice at the same
	// time. Nil has a line logged after a second and then every ten.
	Progress func(Progress)
}

// Broadcast publishes the file or directory path as the next version, which it returns: cut
// into shards, on the disk, and on offer. It waits for other processes that publish into the
// directory, and retires the oldest versions beyond those to keep. An error leaves no version
// and no files.
//
// Errors match [shard.ErrChanged] if the file, or anything in the directory, was written to
// meanwhile, [policy.ErrLineage] if the version does not fit into its run, [tree.ErrUnpublishable] if
// the directory has what cannot be published, [disk.ErrNoSpace], [store.ErrInUse], or are the file system's.
func (o *Origin) Broadcast(ctx context.Context, path string) (shard.Version, error) {
	got, err := o.BroadcastAs(ctx, path, Options{})
	return got.Version, err
}

// Published is a version that has been published.
type Published struct {
	Version  shard.Version
	Manifest shard.Manifest
	Again    bool     // it was there already
	Deltas   []Delta  // those that the manifest names
	Progress Progress // at the end
}

// BroadcastAs is [Origin.Broadcast] by opts, with the input as "-".
func (o *Origin) BroadcastAs(ctx context.Context, path string, opts Options) (Published, error) {
	src, err := open(path, opts)
	if err != nil {
		return Published{}, fmt.Errorf("broadcast %s: %w", path, err)
	}
	defer src.close()
	if err := src.keepsOut(o.store.Dir()); err != nil {
		return Published{}, fmt.Errorf("broadcast %s: %w", path, err)
	}
	if opts.OMSKey != nil {
		o.logger.Info("signing the files", "file", path, "bytes", src.size)
		if err := src.sign(ctx, opts); err != nil {
			return Published{}, fmt.Errorf("broadcast %s: %w", path, err)
		}
	}
	src.report = opts.Progress
	if path == "-" && opts.Input != nil {
		reading, stop := context.WithCancel(ctx)
		defer stop()
		src.Reader = inputOf(reading, opts.Input)
	}
	got, err := o.broadcast(ctx, src, nil)
	switch {
	case err != nil && src.info == nil && src.tree == nil && errors.Is(err, shard.ErrChanged):
		return Published{}, fmt.Errorf("broadcast %s: the input does not have %d bytes: %w", path, src.size, err)
	case err != nil:
		return Published{}, fmt.Errorf("broadcast %s: %w", path, err)
	}
	return got, nil
}

// BroadcastOpened is [Origin.BroadcastAs] of what is open already, which it closes. It calls about when
// the version is ready to be published: an error of about ends the broadcast, and after nil the broadcast
// may still fail. Tree, OMSKey and Input of opts have no effect.
func (o *Origin) BroadcastOpened(ctx context.Context, opened Opened, opts Options,
	about func(version shard.Version, digest shard.Digest) error,
) (Published, error) {
	src, err := openedSource(opened, opts)
	if err != nil {
		return Published{}, err
	}
	defer src.close()
	src.report = opts.Progress
	return o.broadcast(ctx, src, about)
}

// A recorder notes that a version is about to be published.
type recorder func(version shard.Version, digest shard.Digest) error

// broadcast publishes src from the descriptor that is open. It calls record, unless that is
// nil, when the version is ready to be published, see [Origin.BroadcastOpened].
func (o *Origin) broadcast(ctx context.Context, src *source,
	record recorder,
) (got Published, err error) {
	if err := shard.CheckSize(max(0, src.size), o.shardSizeOf(src)); err != nil {
		return Published{}, err
	}
	if src.report == nil {
		src.report = o.logProgress(src)
	}
	t := newTally(src)
	end := t.follow()
	defer func() { got.Progress = end() }()
	w, err := o.store.Lock(ctx)
	if err != nil {
		return Published{}, err
	}
	defer func() { err = errors.Join(err, w.Unlock()) }()
	if err := o.settle(ctx); err != nil {
		return Published{}, err
	}
	if there, err := o.join(w, src); err != nil {
		return Published{}, err
	} else if there.Version != 0 {
		return o.again(ctx, src, t, there, record)
	}
	// A draft of an interrupted broadcast is of another file.
	none := func(shard.Version) bool { return false }
	if err := o.store.DiscardDrafts(none); err != nil {
		return Published{}, err
	}
	version, err := w.Next()
	if err != nil {
		return Published{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.store.DiscardDrafts(none))
		}
	}()
	draft, err := o.store.Draft(version)
	if err != nil {
		return Published{}, err
	}
	t.begin(version)
	m, err := o.cut(ctx, src, t, draft)
	if err == nil && ctx.Err() != nil {
		// What has ended ctx may have ended the program that writes the input, too.
		err = context.Cause(ctx)
	}
	if err != nil {
		return Published{}, err
	}
	deltas, err := o.deltas(ctx, src, t, draft, &m)
	if err != nil {
		return Published{}, err
	}
	if record != nil {
		if err := record(version, m.Digest); err != nil {
			return Published{}, err
		}
	}
	if err := w.Publish(draft, m); err != nil {
		return Published{}, err
	}
	o.logger.Info("published", "version", version.String(), "file", src.path, "bytes", m.Size,
		"shards", len(m.Shards), "digest", m.Digest.String(), "dur", time.Since(t.start))
	return Published{Version: version, Manifest: m, Deltas: deltas}, nil
}

// deltas adds the deltas of src, which has been cut into draft, to its manifest m.
func (o *Origin) deltas(
	ctx context.Context, src *source, t *tally, draft *store.Draft, m *shard.Manifest,
) ([]Delta, error) {
	settings, err := o.store.Settings()
	if err != nil {
		return nil, err
	}
	bases := cmp.Or(src.bases, settings.DeltaBases)
	if bases <= 0 {
		return nil, nil
	}
	t.compare()
	src.forget()
	return o.addDeltas(ctx, draft, m, bases)
}

// Republish publishes the version v once more, under the next number, which it returns. It cuts
// and copies no bytes where the file system has hard links. Errors are those of
// [store.Writer.Republish] and [Origin.Broadcast].
func (o *Origin) Republish(ctx context.Context, v shard.Version) (again shard.Version, err error) {
	w, err := o.store.Lock(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Unlock()) }()
	if err := o.settle(ctx); err != nil {
		return 0, err
	}
	if again, err = w.Republish(v); err != nil {
		return 0, fmt.Errorf("republish %s: %w", v, err)
	}
	o.logger.Info("published again", "version", again.String(), "was", v.String())
	return again, nil
}

// NewRun begins a run of the data directory: it retires the versions of other runs, and from then on
// none is published. Pinned ones stay, with a warning.
func (o *Origin) NewRun(ctx context.Context, run string) (err error) {
	w, err := o.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Unlock()) }()
	if err := o.settle(ctx); err != nil {
		return err
	}
	pinned, err := w.NewRun(run)
	if err != nil {
		return fmt.Errorf("new run %q: %w", run, err)
	}
	for _, v := range pinned {
		o.logger.Warn("version of another run is pinned, and stays", "version", v.String(), "run", run)
	}
	o.logger.Info("run begun", "run", run)
	return nil
}

// Withdraw declares the version v bad: it is off the offer and off the disk at once, and servers of
// the directory say so. The error matches [shard.ErrNoVersion] if it is not on offer.
func (o *Origin) Withdraw(ctx context.Context, v shard.Version) (err error) {
	w, err := o.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Unlock()) }()
	if !o.store.Holds(v) {
		return fmt.Errorf("withdraw %s: %w in %s", v, shard.ErrNoVersion, o.store.Dir())
	}
	if err := o.store.Unpin(ctx, v); err != nil && !errors.Is(err, shard.ErrNoVersion) {
		return err
	}
	return w.Withdraw(v)
}

// Serve serves the data directory on ln until ctx ends, by opts, whose Catalog and Logger it
// replaces, and puts the directory in order first. It calls ready, unless that is nil, when
// it has claimed the directory. It returns an error matching [store.ErrInUse] if the
// directory has another server, and otherwise that of [server.Serve]. It closes ln.
//
// It retires versions when the directory is to keep fewer.
func (o *Origin) Serve(ctx context.Context, ln net.Listener, opts server.Options, ready func()) (err error) {
	release, err := o.store.Claim(ctx)
	if err != nil {
		return errors.Join(server.UnlessOver(ctx, err), ln.Close())
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := o.tidy(ctx); err != nil && ctx.Err() == nil {
		o.logger.Error("data directory failed", "task", "tidy", "err", err)
	}
	if ready != nil {
		ready()
	}
	opts.Catalog, opts.Logger = catalog.New(o.store, nil), o.logger
	ctx, stop := context.WithCancel(ctx)
	var settings sync.WaitGroup
	defer settings.Wait()
	defer stop()
	settings.Go(func() { o.store.FollowSettings(ctx, o.trim) })
	return server.Serve(ctx, ln, opts)
}

// settle gives the directory the number of versions to keep that this origin was made with,
// and returns an error if the directory's settings are not valid.
func (o *Origin) settle(ctx context.Context) error {
	if err := o.store.Keep(ctx, int(o.keep.Load())); err != nil {
		return err
	}
	o.keep.Store(0)
	_, err := o.store.Settings()
	return err
}

// trim retires the versions beyond those to keep. It waits for a broadcast that is under way.
func (o *Origin) trim(ctx context.Context) error {
	w, err := o.store.Lock(ctx)
	if err != nil {
		return err
	}
	return errors.Join(w.Trim(), w.Unlock())
}

// tidy removes drafts of interrupted broadcasts, and versions beyond those to keep, unless a
// broadcast is under way, which does the same.
func (o *Origin) tidy(ctx context.Context) error {
	if err := o.settle(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, busy)
	defer cancel()
	w, err := o.store.Lock(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(o.store.DiscardDrafts(func(shard.Version) bool { return false }), w.Trim(), w.Unlock())
}

// busy is how long a process holds the lock at least while it cuts a file.
const busy = 200 * time.Millisecond

// shardSizeOf returns the size of the shards that src is cut into.
func (o *Origin) shardSizeOf(src *source) int64 {
	if o.shardSize == 0 && src.size == shard.UnknownSize {
		return shard.MaxAutoSize
	}
	return cmp.Or(o.shardSize, shard.AutoSize(src.size))
}

// errEmpty means that an input has no byte.
var errEmpty = errors.New("the input is empty; what writes it may have failed")

// cut cuts src, counted by t, into draft, and returns the manifest. What is read must be the
// same afterwards as when it was opened.
func (o *Origin) cut(
	ctx context.Context, src *source, t *tally, draft *store.Draft,
) (m shard.Manifest, err error) {
	if err := draft.Need(src.size); err != nil {
		return shard.Manifest{}, err
	}
	release, err := draft.Hold()
	if err != nil {
		return shard.Manifest{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	date := time.Now().UTC().Truncate(time.Second)
	var also func([]byte)
	if src.tree != nil {
		also = src.tree.Apart()
	}
	m, err = shard.Cut(ctx, t, shard.Plan{
		Also: also, BLAKE3: o.store.WantsBLAKE3(), Size: src.size, ShardSize: o.shardSizeOf(src),
		Create: draft.Create, Has: o.equalsFor(draft).has,
	})
	if err != nil {
		return shard.Manifest{}, err
	}
	if src.isInput() && m.Size == 0 {
		return shard.Manifest{}, cmp.Or(context.Cause(ctx), errEmpty)
	}
	m.Name, m.Date, m.Labels = src.name, date, src.labels
	list, err := src.end()
	if err != nil || list == nil {
		return m, err
	}
	m.Files, err = writeList(draft, list)
	return m, err
}

// writeList writes the list of files of t into draft, and returns its description.
func writeList(draft *store.Draft, t *tree.Tree) (*shard.Files, error) {
	to, err := draft.CreateFile(shard.FilesName)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewWriter(to)
	files, err := t.Write(buffered)
	if err = cmp.Or(err, buffered.Flush()); err == nil {
		err = to.Commit()
	}
	return files, errors.Join(err, to.Close())
}
