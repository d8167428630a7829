package shardcast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/lookup"
	"github.com/shardcast/shardcast/internal/metrics"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/trust"
)

// Latest is the version that stands for the newest one on offer.
const Latest = "latest"

// ClientOptions configure a [Client]. Only Servers is required.
type ClientOptions struct {
	// Servers are the servers to fetch from: host, host:port or an http:// or https:// URL
	// with an optional path, or dns+http://name:port, or dns+https://, for a server at each address of the
	// name, as they change. One that is up is enough. A version by its number comes from the
	// servers that list it; where they contradict one another the majority decides, and on a
	// tie the first. [Latest] and [Client.Follow] take up what more than half of the servers
	// list, and of two what the first lists.
	Servers []string

	// Trust names the publisher whose word counts, in place of what servers list.
	Trust TrustOptions

	// Quorum is the number of servers that have to list a version for Latest and Follow, if
	// that is more. Zero asks for no more.
	Quorum int

	// ServerPort is the port of servers without one. Zero means 8000, and 80 where that
	// refuses the connection.
	ServerPort int

	// OutputDir is the directory of downloads without a path. Empty means "./downloads".
	OutputDir string

	// Fetch says how to fetch shards.
	Fetch FetchOptions

	// Wait is the time that a download waits for its version to be listed, and for a server
	// to answer. Zero means that it fails at once.
	Wait time.Duration

	// NoResume has downloads begin afresh, without the file or the partial file of an earlier
	// one.
	NoResume bool

	// Seeds are paths of files and directories that may have bytes of versions, which are then
	// copied instead of fetched, and verified as if a server had sent them. A seed that is
	// missing or wrong costs no more than the fetch.
	Seeds []string

	// Replace has a version that is a directory replace any directory at its path, whatever
	// is in it. Without it only an empty directory is replaced, and one that a download has
	// put there.
	Replace bool

	// Files are patterns of the files to download of a version that is a directory, see
	// [BroadcastOptions]. Then the output directory has these alone, and only the shards that
	// have bytes of them are fetched. Their digests are vouched for by the manifest that more
	// than half of the servers state which answer with one; the digest of the whole cannot be
	// verified. Nil means all files. It has no effect on [Client.Follow], and a client with a
	// swarm downloads no part.
	Files []string

	// Swarm has downloads swap shards with peers, where the servers have a swarm, while
	// [Client.Serve] runs. Fetch.LimitRate bounds the throughput to peers separately.
	Swarm SwarmOptions

	// Congestion is the congestion control of the connections to peers, see [OriginOptions].
	Congestion string

	// Downloads call Progress a few times a second, and once at their end; the calls of a
	// download do not overlap. Nil means a line in the log every ten seconds.
	Progress func(Progress)

	// Logger receives the log. Nil discards it.
	Logger *slog.Logger
}

// A Version is a version as servers list and describe it. Where no server has a
// manifest, as with the Python package, only Name and Digest are known, and Shards
// where a server states it.
type Version struct {
	// Name is the version's name, such as "v1".
	Name string

	// File is the name of the published file. It comes from the network: check it before
	// you use it as a path.
	File string

	// Size is the file's size in bytes, and -1 if it is unknown.
	Size int64

	// ShardSize is the size of every shard but the last, in bytes, and -1 if it is
	// unknown.
	ShardSize int64

	// Shards is the number of shards, and -1 if it is unknown.
	Shards int

	// Date is the time of publication, and zero if it is unknown.
	Date time.Time

	// Digest is the file's SHA-256, as 64 lower-case hex digits. A directory's is that of its
	// stream, a tar.
	Digest string

	// BLAKE3 is the file's, by which programs of the Python package 0.3 know it, or empty where it
	// is not known.
	BLAKE3 string

	// Labels are the names and values that the publisher has given the version. They come
	// from the network.
	Labels map[string]string

	// Signed says that the publisher of [TrustOptions] lists the version.
	Signed bool

	// Directory says that the version is a directory.
	Directory bool

	// FileCount is the number of files and empty directories in it.
	FileCount int

	// Deltas are those by which the version can be made from others, as its manifest names them.
	Deltas []Delta

	// Files are these, in the order of their paths, where they were asked for.
	Files []File
}

// A Delta makes a version from another one, its base.
type Delta struct {
	// Base is the base's name where the version was published, such as "v1", and BaseDigest its
	// SHA-256, as 64 lower-case hex digits.
	Base, BaseDigest string

	// Size is the delta's, in bytes.
	Size int64

	// Elapsed is the time that it took to make the delta, in the [Result] of a broadcast.
	Elapsed time.Duration
}

// A File is a file of a version that is a directory, or an empty directory.
type File struct {
	// Path leads to the file from the directory, with slashes. It never leads out of it.
	Path string

	// Directory says that it is an empty directory, which has no other properties.
	Directory bool

	// Executable says that its owner may execute the file.
	Executable bool

	// Size is the file's, in bytes.
	Size int64

	// Digest is the file's SHA-256, as 64 lower-case hex digits.
	Digest string
}

// A Result is a finished download or broadcast.
type Result struct {
	// Version is the version that the file holds.
	Version Version

	// Path is the file or directory, and empty for [Client.DownloadTo] and a broadcast of the
	// Input.
	Path string

	// Verified is what vouches for the bytes: [VerifiedSigned] with a key, or else
	// [VerifiedWhole], or [VerifiedShards] for a part of a directory. It is empty for a broadcast.
	Verified string

	// Again is set for a broadcast that has published nothing, since its run had that version already.
	Again bool

	// Progress is the final progress.
	Progress Progress
}

// What vouches for the bytes of a [Result].
const (
	VerifiedSigned = client.VerifiedSigned // the publisher's signature
	VerifiedWhole  = client.VerifiedWhole  // the digest of the whole that servers list
	VerifiedShards = client.VerifiedShards // the digests of its shards that most servers state
)

// A Client lists and downloads versions. Its methods may be called from any
// goroutine.
type Client struct {
	pool      *fetch.Pool
	keeper    *trust.Keeper // or nil
	finder    *lookup.Finder
	client    *client.Client
	outputDir string
	wait      time.Duration
	noResume  bool
	replace   bool
	files     []string
	seeds     []client.Seed
	progress  func(fetch.Progress) // or nil
	logger    *slog.Logger
	board     *relay.Board     // the arriving shards, for peers; nil without a swarm
	given     *metrics.Metrics // counts the shards that peers receive
	limitRate int64            // bounds them, in bytes per second

	congestion string // of the connections to peers
}

// NewClient returns a Client. It sends no request yet. Errors match [ErrOptions]. The
// caller closes the Client.
func NewClient(opts ClientOptions) (*Client, error) {
	if opts.Wait < 0 {
		return nil, fmt.Errorf("%w: Wait: %v is negative", ErrOptions, opts.Wait)
	}
	if err := opts.Swarm.check(); err != nil {
		return nil, err
	}
	congestion, err := controlOf(opts.Congestion)
	if err != nil {
		return nil, err
	}
	logger := loggerOr(opts.Logger)
	keeper, err := opts.Trust.keeper(stateDir("", ""), logger)
	if err != nil {
		return nil, err
	}
	pool, err := opts.Fetch.pool(opts.Servers, opts.ServerPort, fetch.Options{
		Quorum: opts.Quorum, Keeper: keeper, Swarm: opts.Swarm.Enabled, SwarmAllow: opts.Swarm.Allow, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	c := &Client{
		pool: pool, keeper: keeper, finder: lookup.New(pool, logger), client: client.New(pool, logger),
		outputDir: cmp.Or(opts.OutputDir, DefaultOutputDir),
		wait:      opts.Wait, noResume: opts.NoResume, replace: opts.Replace, files: opts.Files, logger: logger,
		congestion: congestion,
	}
	for _, path := range opts.Seeds {
		c.seeds = append(c.seeds, client.Seed{Path: path})
	}
	if opts.Progress != nil {
		c.progress = func(p fetch.Progress) { opts.Progress(c.progressOf(p)) }
	}
	if opts.Swarm.Enabled {
		c.board, c.given, c.limitRate = relay.NewBoard(), metrics.New("client", ""), opts.Fetch.LimitRate
		c.client.Share(c.board)
	}
	return c, nil
}

// Serve takes part in the swarms of the client's servers until ctx ends: it serves the
// shards of the newest two downloaded versions to peers on ln, and has downloads fetch
// from peers. Downloads that began before Serve do not. It closes ln. It returns nil when
// ctx has ended, and an error matching [ErrOptions] without Swarm.Enabled.
func (c *Client) Serve(ctx context.Context, ln net.Listener) error {
	if c.board == nil {
		return errors.Join(fmt.Errorf("%w: a client serves only with Swarm.Enabled", ErrOptions), ln.Close())
	}
	serving := server.Options{
		Catalog: catalog.New(nil, c.board), Metrics: c.given,
		Limits: slots.Limits{Rate: c.limitRate}, Congestion: c.congestion, Logger: c.logger,
	}
	plain, secure := ln.Addr(), net.Addr(nil)
	if node := c.pool.Node(); node != nil { // what came over TLS does not leave in the clear
		serving.Nodes = &server.Nodes{Listener: ln, Certificate: node.Certificate, Tickets: node.Tickets}
		plain, secure = secure, plain
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.ServeBoard(ctx, ln, serving) })
	group.Go(func() error {
		c.pool.Swarm(ctx, plain, secure)
		return nil
	})
	return group.Wait()
}

// Given returns the number of bytes of shards that [Client.Serve] has sent to peers.
func (c *Client) Given() int64 { return c.given.Traffic().ToPeers }

// List returns the listed versions in ascending order. It asks each server once. The
// error matches [ErrUnreachable] if no server answers.
func (c *Client) List(ctx context.Context) ([]Version, error) {
	listings, err := c.finder.List(ctx)
	if err != nil {
		return nil, err
	}
	versions := make([]Version, len(listings))
	for i, l := range listings {
		versions[i] = listed(l)
	}
	return versions, nil
}

// listed returns the version of a listing.
func listed(l lookup.Listing) Version {
	v := unknown(l.Entry)
	v.Shards = cmp.Or(l.Entry.Count, -1)
	if m := l.Manifest; m != nil {
		v = versionOf(l.Entry.Version, *m)
		v.Shards = l.Entry.Count
	}
	v.Signed = l.Signed
	return v
}

// Find returns a version as [Client.List] does, by its name, [Latest] or labels, as of [Client.Download].
// It waits for one that is not listed yet for as long as the options allow. Errors match [ErrOptions] if
// version is no version, [ErrNoVersion] or [ErrUnreachable].
func (c *Client) Find(ctx context.Context, version string) (Version, error) {
	entry, err := c.find(ctx, version)
	if err != nil {
		return Version{}, err
	}
	l, err := c.finder.Describe(ctx, entry)
	if err != nil {
		return Version{}, err
	}
	return listed(l), nil
}

// Download downloads a version, such as "v1" or [Latest], or the newest with labels such as
// "step=1200" or "run=a,step=7", to the file path, or to the
// directory path if the version is one; an empty path means download_v1.bin in the options'
// OutputDir, or a directory of the published name there. Latest is the newest version that can
// be had: where no server delivers that, one of the next three is taken, with a warning.
// Download makes missing directories. If path
// is a symbolic link, Download replaces the link's target. A file at path that has the
// version's digest stays, and nothing is fetched, unless the options have NoResume or a swarm.
// When it returns nil, the whole published file is on the disk, with the permissions of the
// file that it replaces. After an error the
// file at path is as it was before. Where the error matches [ErrPartial], a partial file stays beside it, and the
// next Download of the same file to the same path continues there. Download waits for a
// version that is not listed yet for as long as the options allow.
//
// Errors match [ErrOptions] if version is no version, [ErrNoVersion], [ErrIntegrity],
// [ErrUnreachable] or [ErrNoSpace]; others are the file system's, the cause of ctx's
// end, or the answers of the servers.
func (c *Client) Download(ctx context.Context, version, path string) (Result, error) {
	return c.download(ctx, version, client.Download{Path: path})
}

// DownloadTo is [Client.Download], but writes the version to w in order, each shard when it is
// verified by the digest that most servers state; where none states any, when the whole is
// verified. An error that matches [ErrIntegrity] says that the whole differs from what w got. The
// bytes are in the partial file of download_v1.bin in the options' OutputDir until all are
// written. An error of w is one of DownloadTo, and leaves the partial file.
func (c *Client) DownloadTo(ctx context.Context, version string, w io.Writer) (Result, error) {
	return c.download(ctx, version, client.Download{To: w})
}

// download is Download to d.Path, or to d.To.
func (c *Client) download(ctx context.Context, version string, d client.Download) (Result, error) {
	expected, err := shard.ParseVersion(version)
	if err != nil {
		expected = 0
	}
	c.pool.Expect(expected)
	entry, err := c.find(ctx, version)
	if err != nil {
		return Result{}, err
	}
	path := d.Path
	d.Dir, d.Named, d.Replace = c.outputDir, func(name string) { path = name }, c.replace
	d.Afresh, d.Patient, d.Progress, d.Seeds = c.noResume, true, c.progress, c.seeds
	if d.To == nil {
		d.Files = c.files
	}
	of := func(e distfile.Entry) client.Download {
		d := d
		d.Entry = e
		return d
	}
	var m shard.Manifest
	var went fetch.Progress
	if version == Latest {
		entry, m, went, err = c.client.Newest(ctx, entry, of)
	} else {
		m, went, err = c.client.Download(ctx, of(entry))
	}
	if err != nil {
		return Result{}, err
	}
	got := Result{
		Version: versionOf(entry.Version, m), Path: path, Verified: c.client.Verified(d), Progress: c.progressOf(went),
	}
	got.Version.Signed = c.pool.Signed()
	if d.To != nil {
		got.Path = ""
	}
	return got, nil
}

// find returns the offer of a version: [Latest], one by its number, or the newest one with the
// labels that version has as NAME=VALUE, separated by commas.
func (c *Client) find(ctx context.Context, version string) (distfile.Entry, error) {
	if version == Latest {
		return c.finder.Await(ctx, 0, c.wait)
	}
	if strings.Contains(version, "=") {
		labels, err := parseLabels(version)
		if err != nil {
			return distfile.Entry{}, fmt.Errorf("%w: Version: %w", ErrOptions, err)
		}
		return c.finder.Select(ctx, labels, c.wait)
	}
	number, err := shard.ParseVersion(version)
	if err != nil {
		return distfile.Entry{}, fmt.Errorf("%w: Version: %w, or %s, or labels such as step=1200",
			ErrOptions, err, Latest)
	}
	return c.finder.Await(ctx, number, c.wait)
}

// parseLabels reads labels as NAME=VALUE, separated by commas.
func parseLabels(text string) (map[string]string, error) {
	labels := make(map[string]string)
	for _, word := range strings.Split(text, ",") {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("%.80q: want labels as NAME=VALUE, separated by commas", text)
		}
		if err := shard.CheckLabel(name, value); err != nil {
			return nil, err
		}
		if _, again := labels[name]; again {
			return nil, fmt.Errorf("%.80q names the label %s twice", text, name)
		}
		labels[name] = value
	}
	return labels, nil
}

// Files returns the files of a version of [Client.List] that is a directory, and nothing for
// one that is a file. Errors match [ErrNoVersion], [ErrIntegrity] or [ErrUnreachable].
func (c *Client) Files(ctx context.Context, v Version) ([]File, error) {
	if !v.Directory {
		return nil, nil
	}
	number, err := shard.ParseVersion(v.Name)
	if err != nil {
		return nil, fmt.Errorf("%w: Version: %w", ErrOptions, err)
	}
	digest, err := shard.ParseDigest(v.Digest)
	if err != nil {
		return nil, fmt.Errorf("%w: Version: %w", ErrOptions, err)
	}
	t, err := c.finder.Tree(ctx, distfile.Entry{Version: number, Digest: digest})
	if err != nil {
		return nil, err
	}
	files := make([]File, t.Len())
	for i := range files {
		f := t.File(i)
		files[i] = File{Path: f.Path, Directory: f.Directory, Executable: f.Executable, Size: f.Size}
		if !f.Directory {
			files[i].Digest = f.Digest.String()
		}
	}
	return files, nil
}

// A Difference is a file that is not as a version has it.
type Difference struct {
	// Path is the file's, with the path of the directory that was compared.
	Path string

	// What says in words what differs, such as "it is missing".
	What string
}

// Verify compares the file or directory path with a version, as [Client.Download] names it, and
// writes nothing. It returns the files that differ: a directory has to have all files of the
// version and no others. A version that is a directory may be a tar at path, too. Errors say
// why nothing could be compared, and are those of Download.
func (c *Client) Verify(ctx context.Context, version, path string) (Version, []Difference, error) {
	entry, err := c.find(ctx, version)
	if err != nil {
		return Version{}, nil, err
	}
	m, found, err := c.client.Verify(ctx, entry, path)
	if err != nil {
		return Version{}, nil, fmt.Errorf("verify %s by %s: %w", path, entry.Version, err)
	}
	differences := make([]Difference, len(found))
	for i, d := range found {
		differences[i] = Difference(d)
	}
	v := versionOf(entry.Version, m)
	if m.Size < 0 {
		v = unknown(entry)
	}
	return v, differences, nil
}

// progressOf converts the progress of a fetch for callers of this package.
func (c *Client) progressOf(p fetch.Progress) Progress {
	q := Progress{
		Version: p.Version.String(), Phase: p.Phase, Size: p.Size, Done: p.Done, Resumed: p.Resumed,
		Rebuilt: p.Rebuilt, Delta: p.Delta,
		Received: p.Received, Peers: p.Peers, Wasted: p.Wasted,
		Given: c.Given(), Elapsed: p.Elapsed, Speed: p.Speed,
	}
	for _, u := range p.Upstreams {
		v := Upstream{
			URL: u.URL, Peer: u.Peer, State: u.State,
			Transfers: u.Transfers, Received: u.Received, Speed: u.Speed,
		}
		if u.Err != nil {
			v.Err = strings.TrimPrefix(strings.TrimPrefix(u.Err.Error(), u.URL), ": ")
		}
		q.Upstreams = append(q.Upstreams, v)
	}
	return q
}

// Close closes connections to servers and the files that it shares with peers.
func (c *Client) Close() error {
	c.pool.Close()
	return c.client.Unshare()
}

func versionOf(v shard.Version, m shard.Manifest) Version {
	of := Version{
		Name: v.String(), File: m.Name, Size: m.Size, ShardSize: m.ShardSize, Shards: len(m.Shards), Date: m.Date,
		Digest: m.Digest.String(), Labels: m.Labels, Directory: m.Files != nil,
	}
	if m.Files != nil {
		of.FileCount = m.Files.Count
	}
	if m.BLAKE3 != (shard.Digest{}) {
		of.BLAKE3 = m.BLAKE3.String()
	}
	for _, d := range m.Deltas {
		of.Deltas = append(of.Deltas, Delta{Base: d.Base.String(), BaseDigest: d.BaseDigest.String(), Size: d.Size})
	}
	return of
}

// unknown is the version of an entry without a manifest.
func unknown(e distfile.Entry) Version {
	return Version{Name: e.Version.String(), Size: -1, ShardSize: -1, Shards: -1, Digest: e.Digest.String()}
}
