package shardcast

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/oms"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
	"github.com/shardcast/shardcast/internal/tree"
	"github.com/shardcast/shardcast/internal/watch"
)

// OriginOptions configure an [Origin]. The zero value is a good one.
type OriginOptions struct {
	// DataDir is the directory of the versions; a missing one is made. Empty means "./data".
	DataDir string

	// Host is the name or address of the interface to listen on. Empty means all.
	Host string

	// Port is the TCP port to listen on. Zero means 8000, and a negative one any free
	// port.
	Port int

	// ShardSize is the size of every shard but the last, in bytes. Zero means 50,000,000,
	// and [AutoShardSize] a thousandth of the file, from 500,000 to 64,000,000. A file
	// may have 65,536 shards.
	ShardSize int64

	// MaxVersions becomes the number of versions that the data directory keeps, up to 10,000,
	// see [Settings]. Zero means the directory's own number.
	MaxVersions int

	// Dialect is the release of the Python package, "0.1", "0.2" or "0.3", whose protocol
	// the server speaks at its root. Empty means our own, see docs/compatibility.md. Each is
	// spoken below /py01, /py02 and /py03 whatever this is.
	Dialect string

	// Sign says how versions are signed. The zero value signs nothing.
	Sign SignOptions

	// Watch selects the files that [Origin.Serve] broadcasts as they appear. The zero
	// value means none.
	Watch WatchOptions

	// Limits bound the shards that the server sends, and Swarm has its nodes swap them.
	Limits ServerLimits
	Swarm  SwarmOptions

	// Congestion is the congestion control of the connections to readers: "auto",
	// "system", which leaves them to the kernel, or a name of the kernel's, such as "bbr" (see tcp(7)). With
	// auto a connection on which packets are lost although none wait in a queue, over a way with
	// a round trip of 20 ms or more, gets BBR, where the kernel allows it. Empty means auto.
	// It has no effect on other systems than Linux, where a name is an error.
	Congestion string

	// [Origin.Serve] calls Ready when it holds the data directory, before it takes
	// connections. Nil is allowed.
	Ready func()

	// Web says which web pages may read from the server.
	Web WebOptions

	// TLS says how the server speaks TLS.
	TLS TLSOptions

	// Access says who may read from the server.
	Access AccessOptions

	// AccessLog receives a line for each answer of the server, in the Combined Log Format
	// followed by the duration in seconds. Each line is one call of Write; calls do not
	// overlap. Nil means no log.
	AccessLog io.Writer

	// NoStatusPage removes the status page at / and /status.json.
	NoStatusPage bool

	// Logger receives the log. Nil discards it.
	Logger *slog.Logger
}

// WatchOptions select the files, or directories, that an [Origin] broadcasts by itself while it
// serves: each once, when it is complete, in the order of their modification times and then their
// names. The data directory remembers each broadcast by name, size, time and inode, so
// files that appear while no server runs follow later, and a file that replaces another
// is broadcast again. Links, hidden files and files in the data directory do not count,
// nor do empty files without a Marker.
//
// A file is complete when it has not changed for Settle or has its Marker, and, on Linux,
// no process has it open for writing. A writer that pauses for longer than Settle with the
// file closed, or on another machine, gets half a file broadcast; renaming whole files into
// the directory, or writing a marker after them, avoids that. A file that changes during its
// broadcast is not published. The server logs every failure and tries again.
type WatchOptions struct {
	// Dir is the directory in which the files appear. [NewOrigin] refuses one that is
	// missing or cannot be read. Empty
	// means no watch.
	Dir string

	// Depth is "file", or "tree" to have each directory in Dir broadcast as one version when all
	// in it is complete, and no files. Empty means "file".
	Depth string

	// Glob is a pattern of [path.Match]: of file names in Dir, or, with one slash, of a
	// directory in Dir and a file name; for trees of the names of directories in Dir. Empty
	// means "*".
	Glob string

	// Include and Exclude choose files of trees, see [BroadcastOptions]. FollowLinks publishes
	// the files that links in trees lead to, all of which have to be below the directory
	// LinksBelow.
	Include, Exclude []string
	FollowLinks      bool
	LinksBelow       string

	// Marker is the name of a file that must stand beside a file, or in a tree, before its
	// broadcast; a marker that is no older than the file, or any file of the tree, makes Settle
	// unnecessary. Empty means none.
	Marker string

	// Run is that of each version, and Lineage says where in trees to read its number, see
	// [BroadcastOptions]. Empty means that of the data directory, and nowhere.
	Run, Lineage string

	// Labels are names and values that each version has, and DeltaBases is from how many versions
	// deltas are made, see [BroadcastOptions].
	Labels     map[string]string
	DeltaBases int

	// Settle is the time without a change after which a file is complete. Zero means 2 s.
	Settle time.Duration
}

// What [WatchOptions] publish.
const (
	watchFiles = "file"
	watchTrees = "tree"
)

// watch returns the options for package watch, and nil for the zero value.
func (o WatchOptions) watch(data string) (*watch.Options, error) {
	if o.Dir == "" {
		if o.Depth != "" || o.Glob != "" || o.Include != nil || o.Exclude != nil || o.FollowLinks ||
			o.LinksBelow != "" || o.Marker != "" || o.Labels != nil || o.Run != "" || o.Lineage != "" ||
			o.DeltaBases != 0 || o.Settle != 0 {
			return nil, fmt.Errorf("%w: Watch has no effect without Watch.Dir", ErrOptions)
		}
		return nil, nil //nolint:nilnil // no watch, which is fine
	}
	if o.Depth != "" && o.Depth != watchFiles && o.Depth != watchTrees {
		return nil, fmt.Errorf("%w: Watch.Depth: %q, want %s or %s", ErrOptions, o.Depth, watchFiles, watchTrees)
	}
	if err := checkDeltaBases("Watch.", o.DeltaBases); err != nil {
		return nil, err
	}
	w := &watch.Options{
		Dir: o.Dir, Glob: cmp.Or(o.Glob, DefaultWatchGlob), Marker: o.Marker, Labels: o.Labels,
		DeltaBases: o.DeltaBases, Lineage: origin.Lineage{Run: o.Run, From: o.Lineage},
		Settle: cmp.Or(o.Settle, DefaultWatchSettle), Trees: o.Depth == watchTrees,
		Tree: tree.Options{
			Include: o.Include, Exclude: o.Exclude, FollowLinks: o.FollowLinks, LinksBelow: o.LinksBelow,
		},
	}
	if err := w.Check(data); err != nil {
		return nil, fmt.Errorf("%w: Watch.%w", ErrOptions, err)
	}
	return w, nil
}

// An Origin publishes files as versions in a data directory, and serves that
// directory. Its methods may be called from any goroutine.
type Origin struct {
	host    string
	port    int
	store   *store.Store
	origin  *origin.Origin
	serving server.Options
	watch   *watch.Options // or nil
	ready   func()
}

// NewOrigin opens the data directory. It returns an error matching [ErrOptions]
// if an option is out of its range, or one of the file system's. The caller
// closes the Origin.
func NewOrigin(opts OriginOptions) (*Origin, error) {
	shardSize := cmp.Or(opts.ShardSize, DefaultShardSize)
	if shardSize == AutoShardSize {
		shardSize = 0
	} else if shardSize < 0 {
		return nil, fmt.Errorf("%w: ShardSize: %d is negative", ErrOptions, opts.ShardSize)
	}
	if err := checkServer(opts.Port, opts.MaxVersions); err != nil {
		return nil, err
	}
	serving, err := opts.Limits.serving(opts.Dialect, opts.Host, opts.Congestion, opts.Web)
	if err != nil {
		return nil, err
	}
	dataDir := cmp.Or(opts.DataDir, DefaultOriginDir)
	watched, err := opts.Watch.watch(dataDir)
	if err != nil {
		return nil, err
	}
	serving.AccessLog = opts.AccessLog
	serving.Metrics = metrics.New("origin", build())
	logger := loggerOr(opts.Logger)
	if watched != nil {
		watched.Logger = logger
	}
	if serving.TLS, err = opts.TLS.serving(logger); err != nil {
		return nil, err
	}
	if serving.Members, err = opts.Swarm.members(serving.TLS != nil, logger); err != nil {
		return nil, err
	}
	if err := opts.Access.serve(&serving, logger); err != nil {
		return nil, err
	}
	if !opts.NoStatusPage {
		serving.Status = &server.Status{Role: "origin", Build: build()}
	}
	st, err := store.Open(dataDir, store.Origin)
	if err != nil {
		return nil, err
	}
	if err := opts.Sign.apply(st); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &Origin{
		host:    opts.Host,
		port:    serverPort(opts.Port),
		store:   st,
		serving: serving,
		watch:   watched,
		ready:   opts.Ready,
		origin:  origin.New(st, shardSize, opts.MaxVersions, logger),
	}, nil
}

// BroadcastOptions describe what [Origin.BroadcastAs] publishes. The zero value is a good one.
type BroadcastOptions struct {
	// Name is the version's name for people and for those who follow, without a directory.
	// Empty means that of the file or directory.
	Name string

	// Labels are names and values that the version has, such as "step" and "1200": at most 64.
	// A name is a letter and up to 63 letters, digits, dots, dashes and underscores of ASCII;
	// a value is text of at most 255 bytes.
	Labels map[string]string

	// Run, Number and After are short for the labels run, number and after: Number is that of the version
	// in its run, and After that of the version of the run that it needs, which has to be there. Zero means
	// none; the Run of a version with a Number is then that of the data directory, see [Origin.NewRun].
	// The same Number again, of equal content, is the version that is there; of other content it is
	// refused with [ErrLineage].
	Run           string
	Number, After int64

	// Lineage is "hf-delta" to read Number and After of a directory from the metadata of its
	// model.safetensors.index.json: version, and base_version where there is a delta_encoding. Empty
	// reads nothing.
	Lineage string

	// DeltaBases is from how many of the newest versions deltas are made, at most 64: what has changed, for
	// those who have one of them. A delta that is larger than half of the version is not published. Each
	// costs another reading of both versions. Zero means as many as the [Settings] of the data directory say, none at
	// first, and a negative number none.
	DeltaBases int

	// Include and Exclude choose files of a directory by patterns as in .gitignore: one
	// without a slash matches a name at any depth, another one the path from the directory;
	// * and ? match within a name, ** any number of directories, and a slash at the end
	// directories alone. A directory that matches stands for all in it. Exclude wins. A nil
	// Include takes all.
	Include, Exclude []string

	// FollowLinks publishes the regular files that symbolic links in a directory lead to, as
	// the snapshots of the Hugging Face hub have them. Without it a link is an error.
	FollowLinks bool

	// OMSKey, of the curve P-256, signs the files of a directory as OpenSSF Model Signing 1.0 says, in
	// model.sig beside them, so that other programs can check them where they have been delivered. All files
	// are read once more for that. See [ReadOMSKey]. Nil signs nothing.
	OMSKey *ecdsa.PrivateKey

	// Input is read for the path "-", to its end; a read may go on after that of the broadcast's
	// context. Nil means that "-" is a file.
	Input io.Reader

	// InputSize is the number of bytes that Input has to have: after fewer or more nothing is published,
	// and the error matches [ErrChanged]. An Input that is cut short by its end alone looks whole otherwise,
	// but one that is empty is refused. Zero means any number.
	InputSize int64

	// The broadcast calls Progress a few times a second, and once at its end; the calls do not
	// overlap. Nil means a line in the log after a second and then every ten.
	Progress func(Progress)
}

// ReadOMSKey reads the private key in a file of PEM, which is not encrypted, for
// [BroadcastOptions].
func ReadOMSKey(file string) (*ecdsa.PrivateKey, error) { return oms.ReadKey(file) }

// Broadcast cuts the file or directory path into shards and publishes it as the next version,
// whose name it returns, such as "v1". Servers of the data directory, in this
// process or another, serve it at once, and Broadcast retires the oldest versions
// beyond those that the directory keeps. Any number of broadcasts into one directory may run at the
// same time, here or in other processes: each waits for its turn.
//
// After an error there is no new version, and no trace of one on the disk. Errors
// match [ErrChanged] if the file, or anything in the directory, changed meanwhile, [ErrUnpublishable]
// if the directory has a link, a device or a name that no version can have, [ErrNoSpace] if the disk has no
// room for it, [ErrLineage] if it does not fit into its run, and [ErrInUse] if the data directory is a
// middle's; of signed directories those of [Origin.Sign]; others are the file system's, or the cause of ctx's end.
func (o *Origin) Broadcast(ctx context.Context, path string) (version string, err error) {
	got, err := o.BroadcastAs(ctx, path, BroadcastOptions{})
	return got.Version.Name, err
}

// BroadcastAs is [Origin.Broadcast] of what opts describe, and returns all of the version. Its
// errors also match [ErrOptions].
func (o *Origin) BroadcastAs(ctx context.Context, path string, opts BroadcastOptions) (Result, error) {
	if err := checkDeltaBases("", opts.DeltaBases); err != nil {
		return Result{}, err
	}
	of := origin.Lineage{Run: opts.Run, Number: opts.Number, After: opts.After, From: opts.Lineage}
	if err := of.Check(opts.Labels); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	as := origin.Options{
		Name: opts.Name, Labels: opts.Labels, Lineage: of, Input: opts.Input, InputSize: opts.InputSize,
		OMSKey: opts.OMSKey, DeltaBases: opts.DeltaBases,
		Tree: tree.Options{Include: opts.Include, Exclude: opts.Exclude, FollowLinks: opts.FollowLinks},
	}
	if opts.Progress != nil {
		as.Progress = func(p origin.Progress) { opts.Progress(broadcastProgress(p)) }
	}
	got, err := o.origin.BroadcastAs(ctx, path, as)
	if err != nil {
		return Result{}, feedError(err)
	}
	result := Result{
		Version: versionOf(got.Version, got.Manifest), Again: got.Again, Progress: broadcastProgress(got.Progress),
	}
	for i, d := range got.Deltas {
		result.Version.Deltas[i].Elapsed = d.Elapsed
	}
	if path != "-" || opts.Input == nil {
		result.Path = path
	}
	return result, nil
}

// NewRun begins the run of that name in the data directory: versions of other runs are retired, but for
// pinned ones, and none is published any more. Version numbers go on. Versions without the labels run
// and number are of no run, and stay. Errors match [ErrOptions] if run can be no name, and else are those
// of [Origin.Sign] for signed directories, or the file system's.
func (o *Origin) NewRun(ctx context.Context, run string) error {
	if err := policy.CheckRun(run); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return feedError(o.origin.NewRun(ctx, run))
}

// checkDeltaBases refuses deltas from more versions than a manifest may name.
func checkDeltaBases(of string, bases int) error {
	if bases > shard.MaxDeltas {
		return fmt.Errorf("%w: %sDeltaBases: %d, want up to %d", ErrOptions, of, bases, shard.MaxDeltas)
	}
	return nil
}

// broadcastProgress converts the progress of a broadcast for callers of this package.
func broadcastProgress(p origin.Progress) Progress {
	q := Progress{Phase: p.Phase, Size: p.Size, Done: p.Done, Elapsed: p.Elapsed, Speed: p.Speed}
	if p.Version != 0 {
		q.Version = p.Version.String()
	}
	return q
}

// Reload has the server read the files of its certificate and its tokens at once. Otherwise it
// looks at them every second.
func (o *Origin) Reload() {
	o.serving.TLS.Reload()
	o.serving.Tokens.Reload()
}

// Listen listens on the Host and Port of the options, for [Origin.Serve].
func (o *Origin) Listen() (net.Listener, error) { return listen(o.host, o.port) }

// Serve serves the data directory on ln, from [Origin.Listen] or elsewhere, and
// broadcasts the files that Watch selects, until ctx ends; then it finishes its
// answers within 30 seconds and returns nil. It returns an error matching [ErrInUse]
// if the data directory has another server, and with Watch those of [Origin.Sign] if the Origin
// has not the key that the directory wants. It closes ln.
func (o *Origin) Serve(ctx context.Context, ln net.Listener) error {
	if o.watch == nil {
		return o.origin.Serve(ctx, ln, o.serving, o.ready)
	}
	if err := o.origin.MayPublish(ctx); err != nil {
		return errors.Join(feedError(err), ln.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	return o.origin.Serve(ctx, ln, o.serving, func() {
		if o.ready != nil {
			o.ready()
		}
		watching.Go(func() { watch.Run(ctx, o.origin, o.store, *o.watch) })
	})
}

// Close releases the data directory.
func (o *Origin) Close() error {
	o.serving.Members.Close()
	return o.store.Close()
}

// checkServer refuses ports beyond the highest, and more versions than
// distribution.txt may list.
func checkServer(port, maxVersions int) error {
	if port > maxPort {
		return fmt.Errorf("%w: Port: %d, want up to %d", ErrOptions, port, maxPort)
	}
	if maxVersions < 0 || maxVersions > distfile.MaxEntries {
		return fmt.Errorf("%w: MaxVersions: %d, want up to %d", ErrOptions, maxVersions, distfile.MaxEntries)
	}
	return nil
}

// serverPort is the port to listen on for the option port.
func serverPort(port int) int {
	switch {
	case port == 0:
		return DefaultPort
	case port < 0:
		return 0
	default:
		return port
	}
}

func loggerOr(logger *slog.Logger) *slog.Logger {
	return cmp.Or(logger, slog.New(slog.DiscardHandler))
}
