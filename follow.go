package shardcast

import (
	"context"
	"fmt"
	"iter"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/follow"
	"github.com/shardcast/shardcast/internal/shard"
)

// Defaults of [FollowOptions].
const (
	DefaultTemplate = follow.DefaultTemplate
	DefaultKeep     = follow.DefaultKeep
)

// FollowOptions say what [Client.Follow] keeps in the OutputDir of the client's
// options. The zero value is a good one.
type FollowOptions struct {
	// Template is where in the directory a version's file goes, with slashes: {version}
	// stands for "v7", {n} for "7", one of which there must be, and {name} for the name
	// that the file had where it was published. A name that is none, is hidden or has a
	// directory in it is download_v7.bin here. Empty means "{version}/{name}".
	Template string

	// Keep is how many versions are kept: the last ones that came. Zero means 2. What
	// else is in the directory is never touched.
	Keep int

	// From has those versions come first, in order, that are on offer at the beginning
	// and not before this one, such as "v7". Only where no version has come yet does it
	// hold back older ones. Empty means that the newest comes first.
	From string

	// All has every version come, in order. Otherwise the newest one comes next, and
	// what was published while another one was downloaded and used is left out.
	All bool

	// SkipStale has a download broken off as soon as a newer version is on offer.
	SkipStale bool

	// Marker is the name of an empty file that is written beside each version when it
	// is complete; the template must have a directory for each version. Empty means
	// none.
	Marker string

	// Link is the name, in the directory, of a symbolic link to the file of the newest
	// version, which is switched at once. Empty means none.
	Link string
}

// Follow keeps the newest version in the client's OutputDir, for ever: it yields each
// version that has come, when its file, marker and link are in place. It ends when the
// caller breaks off, when ctx ends, or when the directory cannot be kept, and yields the
// latter two as the last error, with a Result that names no version. An error with a
// Result that does, is of a version that is passed over, for the next one:
// [ErrNoVersion] if it was retired before it was fetched, [ErrIntegrity] if no server
// has the right bytes; others say that its place has a file that is not ours, or what
// went wrong in all attempts, three times.
//
// Servers that are down, and a full disk, are waited for. What is in the directory is
// found again by the next Follow, also after a crash: it does not come twice. Only a
// version for which the caller's loop had not come to its end, or ctx had ended before, is
// yielded again, from the disk. One Follow at a time can have a directory.
//
// The options' Wait does not matter. Errors match [ErrOptions] if an option is none.
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
				more = yield(Result{Version: Version{Name: got.Entry.Version.String(), Size: -1, ShardSize: -1, Shards: -1, Digest: got.Entry.Digest.String()}}, err)
				return more
			}
			version := versionOf(got.Entry.Version, got.Manifest)
			version.Shards = got.Entry.Count
			more = yield(Result{Version: version, Path: got.Path, Progress: c.progressOf(got.Progress)}, nil)
			return more
		})
		if err != nil && more {
			yield(Result{}, err)
		}
	}
}

// follow returns opts as package follow has them.
func (c *Client) follow(opts FollowOptions) (follow.Options, error) {
	f := follow.Options{
		Pool: c.pool, Client: c.client, Logger: c.logger,
		Dir: c.outputDir, Template: opts.Template, Keep: opts.Keep, All: opts.All, SkipStale: opts.SkipStale,
		Marker: opts.Marker, Link: opts.Link, Afresh: c.noResume,
	}
	if opts.From != "" {
		var err error
		if f.From, err = shard.ParseVersion(opts.From); err != nil {
			return follow.Options{}, fmt.Errorf("%w: from %w", ErrOptions, err)
		}
	}
	if err := f.Check(); err != nil {
		return follow.Options{}, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if c.progress != nil {
		f.Progress = func(p fetch.Progress) { c.progress(c.progressOf(p)) }
	}
	return f, nil
}
