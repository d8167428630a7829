package shardcast

import (
	"context"
	"fmt"
	"iter"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/follow"
	"github.com/shardcast/shardcast/internal/shard"
)

// Defaults of [FollowOptions].
const (
	DefaultTemplate = follow.DefaultTemplate
	DefaultKeep     = follow.DefaultKeep
)

// FollowOptions say which versions [Client.Follow] keeps, and how, in the OutputDir of the
// client's options. The zero value is a good one.
type FollowOptions struct {
	// Template is the path of a version's file or directory in the OutputDir, with slashes:
	// {version} stands for "v7", {n} for "7", {n:06} for "000007", {name} for the name of
	// what was published, {label.step} for the value of the label step, and {label.step:06}
	// for a value that is a number. A name that is empty, hidden or has a directory in it
	// becomes download_v7.bin, or download_v7. A version without a path is left out, with
	// [ErrLabel], and so is one whose path is that of a version that is still kept.
	// Empty means "{version}/{name}".
	Template string

	// Keep is the number of delivered versions to keep, the newest, beside those that these need by their
	// labels. Zero means 2. Follow touches no other file: where another program has put one
	// into the directory of a version, that one stays.
	Keep int

	// From, such as "v7", delivers the versions from it on that are listed at the beginning,
	// in order. Where the directory already has a version it does not hold back older
	// ones. Empty means the newest first.
	From string

	// All delivers every version, in order. Otherwise the newest comes next, and versions
	// published during a download and its use are left out.
	All bool

	// Lineage delivers, with All, the versions of a run, see [BroadcastOptions]: it begins with the newest
	// that needs no other, and then come the later ones, each only when what it needs was delivered. A
	// version whose need is not on offer is a gap: nothing more comes of the run until that, or a newer
	// version that needs none, is on offer. Versions without a number are left out. When a full version of
	// another run is newer than all of this one, Follow removes what it has made of older runs, and goes on
	// with that. Needs All, and no From.
	Lineage bool

	// OnGap is called when a version is held up, and OnRun when another run has begun, before anything of
	// older ones is removed. They are called between two versions. Nil is allowed.
	OnGap func(Gap)
	OnRun func(run string)

	// SkipStale breaks off a download as soon as a newer version is listed.
	SkipStale bool

	// NoRollback keeps a version in place that its publisher has withdrawn. Otherwise Follow goes
	// back to the newest version on offer that it has delivered before, and delivers it again,
	// once most of the servers say that the last one was withdrawn.
	NoRollback bool

	// AcceptRestart lets version numbers go back when the origin has started over, and run
	// any distance ahead. Otherwise Follow delivers nothing older than it has delivered, and
	// warns, since a replayed list looks the same.
	AcceptRestart bool

	// Marker is the name of an empty file that Follow writes beside each version when it
	// is complete, and never in the directory of one; the template must have a directory for
	// each version. Empty means none.
	Marker string

	// Link is the name, in the OutputDir, of a symbolic link to the newest version's file or
	// directory, which Follow switches atomically. Empty means none.
	Link string

	// PassedOver is called for each version that counted since the last delivery and is left out
	// without a fetch, before the newer one is yielded: the error matches [ErrNewer], or
	// [ErrNoVersion] if the version was retired meanwhile. Other versions that are left out are
	// yielded with their errors. Nil is allowed.
	PassedOver func(Version, error)
}

// A Gap is a version that [Client.Follow] holds up, as something that it needs is not on offer.
type Gap struct {
	Run     string
	Version string // such as "v9"
	Missing string // the number in the run that is missing
}

// Follow keeps the newest version in the client's OutputDir, for ever: it yields each
// version when its file or directory, marker and link are in place. It ends when the caller breaks
// off, when ctx ends, or when it cannot use the directory; the latter two are its last
// error, with a Result without a version. An error with a version in its Result means that
// Follow leaves this version out: [ErrNoVersion] if it was retired before the fetch,
// [ErrIntegrity] if no server has the right bytes, [ErrLabel] if it has no path; others report
// a file of another program or a kept version in its place, or three failed fetches.
//
// Follow takes up the versions that more than half of the servers list, and of two those of
// the first, see [ClientOptions]. While one of them brings next to nothing it tries others.
// With a publisher in the options' Trust, it takes up what that lists, follows it into a higher epoch,
// and delivers nothing new, with a warning, once its release has expired.
// It waits for servers that are down, and for room on a full disk. The next Follow in
// the directory, also after a crash, does not deliver a version twice, unless ctx or the
// program ended before the caller's loop had come to its end for that version; Follow then
// yields it again, from the disk. One Follow at a time can use a directory.
//
// The options' Wait has no effect. Errors match [ErrOptions] if an option is invalid.
func (c *Client) Follow(ctx context.Context, opts FollowOptions) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		f, err := c.follow(opts)
		if err != nil {
			yield(Result{}, err)
			return
		}
		more := true
		err = follow.Run(ctx, f, func(got follow.Delivery, err error) bool {
			if err != nil {
				more = yield(Result{Version: unknown(got.Entry)}, err)
				return more
			}
			version := versionOf(got.Entry.Version, got.Manifest)
			version.Shards, version.Signed = got.Entry.Count, c.pool.Signed()
			more = yield(Result{
				Version: version, Path: got.Path, Verified: c.client.Verified(client.Download{}),
				Progress: c.progressOf(got.Progress),
			}, nil)
			return more
		})
		if err != nil && more {
			yield(Result{}, err)
		}
	}
}

// follow returns opts for package follow.
func (c *Client) follow(opts FollowOptions) (follow.Options, error) {
	f := follow.Options{
		Pool: c.pool, Client: c.client, Logger: c.logger,
		Dir: c.outputDir, Template: opts.Template, Keep: opts.Keep, All: opts.All, SkipStale: opts.SkipStale,
		Lineage: opts.Lineage, OnRun: opts.OnRun,
		AcceptRestart: opts.AcceptRestart, NoRollback: opts.NoRollback,
		Marker: opts.Marker, Link: opts.Link, Afresh: c.noResume, Seeds: c.seeds, Progress: c.progress,
	}
	if opts.PassedOver != nil {
		f.PassedOver = func(e distfile.Entry, why error) { opts.PassedOver(unknown(e), why) }
	}
	if opts.OnGap != nil {
		f.OnGap = func(g follow.Gap) {
			opts.OnGap(Gap{Run: g.Run, Version: g.Version.String(), Missing: g.Missing})
		}
	}
	if opts.From != "" {
		var err error
		if f.From, err = shard.ParseVersion(opts.From); err != nil {
			return follow.Options{}, fmt.Errorf("%w: From: %w", ErrOptions, err)
		}
	}
	if err := f.Check(); err != nil {
		return follow.Options{}, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return f, nil
}
