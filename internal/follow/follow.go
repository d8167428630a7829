// Package follow keeps the newest versions in a directory. It does not know how bytes travel:
// package client downloads.
//
// The directory's record, see package record, lists the files that are ours, and
// is written before each of them is made; of a version that is a tree, a list beside it does
// for the files. A file that is not in them is foreign: it is never replaced or removed. At the
// start the record is compared with the disk: a file is recognised by its size and time, or
// else by its digest.
//
// A tree has its name while all of it is there: it gets the name when it is complete, by one
// rename, and loses it, by another one, before its first file is removed.
//
// Each version is delivered once. It counts as delivered when the caller's function has returned
// before the context ended, and the record notes that before the next version is taken; after a
// crash in between it is delivered again, from the disk.
//
// With a keeper of releases in the pool, the publisher says which versions there are: what it
// withdraws is left at once, numbers begin again in a higher epoch alone, and once its release has
// expired nothing new is delivered.
//
// One goroutine decides, and during a download leaves the record to it, so nothing here needs a
// mutex. The lock of a second file, .shardcast-follow/lock, keeps other processes away.
package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/lookup"
	"github.com/shardcast/shardcast/internal/shard"
)

// DefaultKeep is the default of [Options.Keep].
const DefaultKeep = 2

// Options configure [Run]. Pool, Client, Logger and Dir are required.
type Options struct {
	// Pool has the servers, through which Client downloads.
	Pool   *fetch.Pool
	Client *client.Client
	Logger *slog.Logger

	// Dir is the directory; it is made if it is missing.
	Dir string

	// Template is the path of a version's file or directory in Dir. Empty means
	// [DefaultTemplate].
	Template string

	// Keep is the number of versions to keep. Zero means [DefaultKeep].
	Keep int

	// From makes all versions from that one on that are on offer at the start come first, in
	// order. Zero means only the newest.
	From shard.Version

	// All makes each version come, in order, not only the newest.
	All bool

	// Lineage delivers, with All, the versions of a run by their labels, see package lineage: it begins
	// with the newest that needs no other, and then in order, each only when what it needs was delivered.
	// Versions without a place in a run are left out. When a full version of another run is newer than
	// all of this one, that one has ended: Run removes what it has made of older runs, and follows it.
	Lineage bool

	// OnGap is called when a version is held up, and again when another one is, or after a restart. Nil
	// is allowed, also below.
	OnGap func(Gap)

	// OnRun is called when another run has begun, before anything of older ones is removed.
	OnRun func(run string)

	// SkipStale ends a download when a newer version is on offer.
	SkipStale bool

	// AcceptRestart lets version numbers go back when the origin has started over, and be any
	// distance ahead. Otherwise Run delivers nothing older than it has delivered, and warns.
	AcceptRestart bool

	// NoRollback keeps a version in place that was withdrawn. Otherwise Run goes back to an
	// earlier one, and delivers it again.
	NoRollback bool

	// Marker is the name of an empty file to make beside each complete version. Empty means
	// none.
	Marker string

	// Link is the name, in Dir, of a symbolic link to the newest version's file or directory.
	// Empty means none.
	Link string

	// Afresh discards the partial file of an earlier download.
	Afresh bool

	// Seeds are where bytes of versions may be, beside the versions in Dir.
	Seeds []client.Seed

	// Progress is called as in [fetch.Task].
	Progress func(fetch.Progress)

	// PassedOver is called for each version that is left out without a fetch, before the newer one
	// is yielded: the error matches [ErrNewer], or [fetch.ErrNoVersion] if it was retired
	// meanwhile. Nil is allowed.
	PassedOver func(distfile.Entry, error)
}

// Check returns an error if an option that the user chooses is invalid.
func (o Options) Check() error {
	t, err := parseTemplate(cmp.Or(o.Template, DefaultTemplate))
	if err != nil {
		return err
	}
	for option, name := range map[string]string{"Marker": o.Marker, "Link": o.Link} {
		if name == "" {
			continue
		}
		if err := checkName(name); err != nil {
			return fmt.Errorf("%s: %w", option, err)
		}
	}
	switch {
	case o.Keep < 0:
		return fmt.Errorf("Keep: %d versions", o.Keep)
	case o.Lineage && !o.All:
		return errors.New("Lineage: it delivers every version of a run, and wants All")
	case o.Lineage && o.From != 0:
		return errors.New("Lineage: it begins with the newest version that needs no other, which excludes From")
	case o.All && o.SkipStale:
		return errors.New("SkipStale: it leaves out versions, and All delivers every one")
	case o.Marker != "" && !t.ownDir():
		return fmt.Errorf("Marker: one beside each version wants {version}, {n} or a label in a directory of the "+
			"template %q", string(t))
	case o.Marker != "" && path.Base(string(t)) == o.Marker:
		return fmt.Errorf("Marker: %s: the template %q has a file of that name", o.Marker, string(t))
	case o.Link != "" && t.begins(o.Link):
		return fmt.Errorf("Link: %s: the template %q has a directory of that name", o.Link, string(t))
	}
	return nil
}

// A Delivery is a version that is complete in the directory.
type Delivery struct {
	Entry distfile.Entry

	// Manifest is the version's, without the shards' digests; their number is in Entry.Count.
	Manifest shard.Manifest

	// Path is the file or directory.
	Path string

	// Progress describes the download. Where the file was there already, all of it is resumed.
	Progress fetch.Progress
}

// Run keeps the newest version in a directory until ctx ends. It calls yield for each version
// when its file, marker and link are in place, and goes on if yield returns true.
//
// Run takes up the versions that count, see package offers. While one of them brings next to
// nothing, it tries others, and comes back.
//
// Run waits for servers that are down, and for room on a full disk. It passes over a version that
// was retired, has wrong bytes on every server, has a foreign file or a version that is kept in
// its place, has no path by the template, or failed in three rounds of all attempts: it calls
// yield with the version's Entry and the error, and takes the next version. As long as nothing
// newer comes, Run tries a version whose failure may pass again after a while.
//
// Run returns nil if yield ended it, the cause if ctx did, and otherwise an error of the
// directory.
func Run(ctx context.Context, o Options, yield func(Delivery, error) bool) error {
	if err := o.Check(); err != nil {
		return err
	}
	o.Keep, o.Template = cmp.Or(o.Keep, DefaultKeep), cmp.Or(o.Template, DefaultTemplate)
	dir, err := openDirectory(ctx, o)
	if err != nil {
		return fmt.Errorf("follow into %s: %w", o.Dir, err)
	}
	choice := newChoice(o.From, o.All, o.Pool.Elsewhere)
	if o.Lineage {
		choice.descent = &descent{labels: make(map[distfile.Entry]map[string]string)}
	}
	r := &run{
		opts: o, dir: dir, template: template(o.Template), yield: yield,
		choice: choice, news: make(chan struct{}, 1),
		descending: descending{manifest: o.Pool.Manifest, failures: make(map[distfile.Entry]failure)},
		passed:     passed{tell: o.PassedOver},
	}
	var group sync.WaitGroup
	defer group.Wait()
	asking, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() {
		o.Pool.Follow(asking, lookup.PollEvery, func() {
			select {
			case r.news <- struct{}{}:
			default: // earlier news waits to be looked at
			}
		})
	})
	if err = r.run(ctx); errors.Is(err, errEnough) {
		err = nil
	}
	if err := errors.Join(err, dir.close()); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("follow into %s: %w", o.Dir, err)
	}
	return nil
}
