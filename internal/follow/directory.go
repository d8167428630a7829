package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/client"
	"github.com/shardcast/shardcast/internal/compare"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/partial"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
)

// directory is the output directory: the files, markers and link that are ours by the record.
type directory struct {
	root   *os.Root
	lock   *os.File // of lockName
	record record.Record
	keep   int    // versions
	chains bool   // versions that others need keep their places
	marker string // of each version, or empty
	logger *slog.Logger
}

// errFollowed is the error for a second follow of one directory.
var errFollowed = errors.New("another follow keeps this directory")

// openDirectory opens the directory of o, which it makes if it is missing, locks it, and reads
// its record.
func openDirectory(ctx context.Context, o Options) (*directory, error) {
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, err
	}
	d := &directory{root: root, keep: o.Keep, chains: o.Lineage, marker: o.Marker, logger: o.Logger}
	if err := d.claim(ctx); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if d.record, err = record.Read(root); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// The files of our own beside the record.
const (
	lockName = record.Hidden + "/lock"
	linkTemp = record.Hidden + "/link" // the link at first
)

// lockWait is how long a follow waits for the lock: the process of an earlier one may have
// been killed and not have ended yet.
const lockWait = time.Second

// claim locks the directory against other follows.
func (d *directory) claim(ctx context.Context) (err error) {
	for _, name := range []string{record.Hidden, describedName} {
		if err := disk.MakePrivate(d.root, name); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	d.lock, err = disk.Lock(limited, d.root, lockName)
	switch {
	case ctx.Err() != nil:
		if err == nil {
			_ = d.lock.Close() // nothing was written
		}
		return context.Cause(ctx)
	case errors.Is(err, disk.ErrLocked):
		return fmt.Errorf("%s: %w", d.root.Name(), errFollowed)
	}
	return err
}

func (d *directory) close() error { return errors.Join(d.lock.Close(), d.root.Close()) }

// save writes the record.
func (d *directory) save() error { return d.record.Write(d.root) }

// full is the path of a name in the directory for callers and logs.
func (d *directory) full(name string) string {
	return filepath.Join(d.root.Name(), filepath.FromSlash(name))
}

// recover compares the record with the disk, and drops the files that are not there any more.
func (d *directory) recover(ctx context.Context) error {
	if err := d.takeOver(); err != nil {
		return err
	}
	if err := d.removeLeaving(ctx); err != nil {
		return err
	}
	if err := d.recoverBegun(ctx); err != nil {
		return err
	}
	r := &d.record
	var left []record.File
	for _, f := range r.Held {
		here, err := d.stillHere(ctx, &f)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil { // so it may well be f
			d.logger.Warn("file cannot be read now", "version", f.Version.String(), "err", err)
			here = true
		}
		if here {
			left = append(left, f)
			continue
		}
		d.unmark(f)
		if f.Version == r.Last {
			r.Last-- // so that it comes again
		}
	}
	r.Held = left
	d.tidy()
	d.forget()
	return d.save()
}

// recoverBegun finds out whether the file that was begun has come. It returns the cause of ctx.
func (d *directory) recoverBegun(ctx context.Context) error {
	r := &d.record
	b := r.Begun
	if b == nil {
		return nil
	}
	if b.IsTree() {
		if err := d.withParent(b.Path, partial.Settle); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.logger.Warn("file cannot be read now", "version", b.Version.String(), "err", err)
		}
	}
	here, err := d.verify(ctx, b)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		d.logger.Warn("file cannot be read now", "version", b.Version.String(), "err", err)
	case here: // a crash came between the file's final name and the record
		d.dropPartial(*b)
		r.Put(*b)
	case !d.isMissing(b.Path) && r.At(b.Path) < 0:
		d.logger.Warn("foreign file in the place of a version",
			"version", b.Version.String(), "file", d.full(b.Path))
		d.abandon()
	}
	return nil
}

// stillHere reports whether the file at f's path is f, by its size and time or else by its
// digest, and of a tree whether any file is. If it is not, that is logged.
func (d *directory) stillHere(ctx context.Context, f *record.File) (bool, error) {
	if f.IsTree() {
		return d.treeIsHere(ctx, f)
	}
	info, err := d.root.Lstat(f.Path)
	if err == nil && info.Mode().IsRegular() &&
		info.Size() == f.Manifest.Size && info.ModTime().UnixNano() == f.Modified {
		return true, nil
	}
	here, err := d.verify(ctx, f)
	if err == nil && !here {
		d.logger.Warn("file has gone or changed", "version", f.Version.String(), "file", d.full(f.Path))
	}
	return here, err
}

// verify reports whether the file at f's path is f by its digest, and if so notes its time and
// its SHA-256 in f. It returns the cause of ctx, or that the file cannot be read now.
func (d *directory) verify(ctx context.Context, f *record.File) (bool, error) {
	if f.IsTree() {
		return d.verifyTree(ctx, f)
	}
	m := f.Manifest
	m.Digest = cmp.Or(f.Offered, m.Digest) // by which it is right, whatever else the manifest states
	same, err := compare.File{
		Dir: d.root, Name: f.Path, Manifest: m, Logger: d.logger.With("version", f.Version.String()),
	}.Run(ctx)
	if err != nil || same == nil {
		return false, err
	}
	f.Manifest.Digest, f.Modified = same.Digest, same.Info.ModTime().UnixNano()
	return true, nil
}

var (
	// errHere ends a download whose file is in place already.
	errHere = errors.New("the file is here already")

	// errForeign is the error for a version whose place is taken by a file of others.
	errForeign = errors.New("a file that is not ours is in the way")

	// errClash is the error for a version whose place is taken by another one.
	errClash = errors.New("two versions have one place")
)

// begin records f, makes the directories on the way to its path, and opens the last of them.
// A file that was begun for another path is abandoned. Errors match errHere if f itself is at
// the path, errForeign if a foreign file is, and errClash if a version is that is kept.
func (d *directory) begin(ctx context.Context, f record.File) (*os.Root, error) {
	r := &d.record
	if r.Begun != nil && (r.Begun.Path != f.Path || r.Begun.IsTree() != f.IsTree()) {
		d.abandon()
	}
	if f.IsTree() { // whose list has to last as long as the record
		for _, name := range []string{described(f), describedName} {
			if err := disk.SyncDir(d.root, name); err != nil {
				return nil, err
			}
		}
	}
	if err := d.checkWay(f); err != nil {
		return nil, err
	}
	if err := d.checkPlace(ctx, &f); err != nil {
		return nil, err
	}
	if err := d.chooseMarker(&f); err != nil {
		return nil, err
	}
	dir := path.Dir(f.Path)
	for parent := dir; parent != "."; parent = path.Dir(parent) {
		if d.isMissing(parent) && !slices.Contains(r.Dirs, parent) {
			r.Dirs = append(r.Dirs, parent)
		}
	}
	r.Begun = &f
	if err := d.save(); err != nil {
		return nil, err
	}
	if err := d.root.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	return d.root.OpenRoot(dir)
}

// chooseMarker sets the marker of f: a name that is free, or none. The error matches errClash
// if the name is that of another version's marker.
func (d *directory) chooseMarker(f *record.File) error {
	if d.marker == "" || f.Marker != "" {
		return nil
	}
	name := path.Join(path.Dir(f.Path), d.marker)
	for _, o := range d.record.Held {
		if o.Marker == name && o.Path != f.Path {
			return fmt.Errorf("%w: the marker of %s is %s already; put {version} or {n} in the directory of the "+
				"template", errClash, o.Version, d.full(name))
		}
	}
	switch {
	case d.isMissing(name):
		f.Marker = name
	case !d.isMarker(name):
		d.logger.Warn("marker not written: its name is taken", "version", f.Version.String(), "file", d.full(name))
	}
	return nil
}

// checkWay returns an error matching errForeign if the way to the path of f is a symbolic link that
// leads out of the output directory: nothing is written there.
func (d *directory) checkWay(f record.File) error {
	for at, c := range f.Path {
		if c != '/' {
			continue
		}
		dir := f.Path[:at]
		info, err := d.root.Lstat(dir)
		if err != nil {
			return nil //nolint:nilerr // it is made, or reported then
		}
		if _, err = d.root.Stat(dir); err != nil && info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%w: %s is a symbolic link that leads out of the output directory, or to nothing; "+
				"remove it, or follow into the directory that it leads to", errForeign, d.full(dir))
		}
	}
	return nil
}

// checkPlace returns nil if f may be downloaded to its path: it is free, or a file of ours is
// there that is not kept beside f. A file that was there before the follow is recorded as found
// if it is f.
func (d *directory) checkPlace(ctx context.Context, f *record.File) error {
	held := d.record.Held
	for _, o := range held {
		if o.IsTree() && strings.HasPrefix(f.Path, o.Path+"/") {
			return fmt.Errorf("%w: %s is in the directory of %s", errClash, d.full(f.Path), o.Version)
		}
	}
	_, err := d.root.Lstat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	i := d.record.At(f.Path)
	if i >= 0 && !held[i].Found {
		old := held[i]
		f.Marker = old.Marker
		if old.Version != f.Version && d.staysBeside(i, *f) {
			return fmt.Errorf("%w: %s is there already and is kept, at %s; put {version} or {n} in the template, "+
				"or keep 1 version", errClash, old.Version, d.full(f.Path))
		}
		return d.checkReplaced(ctx, old, *f)
	}
	if f.IsTree() && i < 0 && d.isEmpty(f.Path) {
		return nil
	}
	f.Found = true
	here, err := d.verify(ctx, f)
	switch {
	case err != nil:
		return err
	case here && i < 0:
		if err := d.chooseMarker(f); err != nil {
			return err
		}
		d.record.Put(*f)
		return errHere
	}
	return fmt.Errorf("%w: %s", errForeign, d.full(f.Path))
}

// staysBeside reports whether the held file i is to be kept beside f, which is about to come.
func (d *directory) staysBeside(i int, f record.File) bool {
	held := d.record.Held
	if d.record.IsWithdrawn(held[i].Entry()) {
		return false
	}
	with := append(slices.Clone(held), f)
	return i > len(held)-d.keep || d.chains && needed(with, func(n int) bool { return n > len(held)-d.keep })[i]
}

// checkReplaced returns nil if the file old, which is held, may be replaced by f: it has not
// been changed, and a tree has no files of others.
func (d *directory) checkReplaced(ctx context.Context, old, f record.File) error {
	switch {
	case old.IsTree() != f.IsTree():
		return fmt.Errorf("%w: %s is there, at %s, and one of the two is a directory; put {version} or {n} in the "+
			"template, or remove it", errClash, old.Version, d.full(f.Path))
	case old.IsTree():
		return d.onlyOurs(ctx, old)
	}
	here, err := d.stillHere(ctx, &old)
	if err == nil && !here {
		err = fmt.Errorf("%w: %s", errForeign, d.full(f.Path))
	}
	return err
}

// mayReplace returns nil if what is at the path of the file that was begun may be replaced.
func (d *directory) mayReplace(ctx context.Context) error {
	b := d.record.Begun
	i := d.record.At(b.Path)
	switch {
	case i < 0 && d.isEmpty(b.Path):
		return nil
	case i < 0:
		return fmt.Errorf("%w: %s", errForeign, d.full(b.Path))
	}
	return d.checkReplaced(ctx, d.record.Held[i], *b)
}

// isEmpty reports whether name is a directory without files.
func (d *directory) isEmpty(name string) bool {
	dir, err := openTree(d.root, name)
	if dir == nil || err != nil {
		return false
	}
	defer dir.Close()
	empty, err := disk.IsEmpty(dir)
	return err == nil && empty
}

func (d *directory) isMissing(name string) bool {
	_, err := d.root.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// complete notes that the file that was begun has come, with the manifest m.
func (d *directory) complete(m shard.Manifest) error {
	f := *d.record.Begun
	if f.IsTree() {
		_ = d.noteTimes(f) // without them the digests decide
	}
	info, err := d.root.Lstat(f.Path)
	if err != nil {
		return err
	}
	f.Shards, f.Modified = len(m.Shards), info.ModTime().UnixNano()
	m.Shards = nil
	f.Manifest = m
	d.record.Put(f)
	return nil
}

// abandon removes the partial file of the version that was begun, if there is one.
func (d *directory) abandon() {
	b := d.record.Begun
	if b == nil {
		return
	}
	d.record.Begun = nil
	d.dropPartial(*b)
	d.tidy()
}

// dropPartial removes the partial file of f, if there is one.
func (d *directory) dropPartial(f record.File) {
	if err := d.withParent(f.Path, client.RemovePartial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.logger.Warn("partial download not removed", "version", f.Version.String(), "file", d.full(f.Path), "err", err)
	}
}

// withParent calls do with the directory that a name is in, and the last element of the name.
func (d *directory) withParent(name string, do func(dir *os.Root, base string) error) error {
	dir, err := d.root.OpenRoot(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(dir, path.Base(name))
}

// trim removes all but the last versions that are kept, and those that these need by their labels. It
// returns the cause of ctx.
func (d *directory) trim(ctx context.Context) error {
	held := d.record.Held
	last := func(i int) bool { return i >= len(held)-d.keep }
	needed := needed(held, last)
	return d.drop(ctx, func(i int) bool { return !last(i) && !needed[i] })
}

// drop removes the versions that are held and that which says, by their index. It returns the cause of ctx.
func (d *directory) drop(ctx context.Context, which func(i int) bool) error {
	var left []record.File
	for i, f := range d.record.Held {
		switch {
		case !which(i):
			left = append(left, f)
		case f.Found:
			d.unmark(f)
		case f.IsTree():
			d.record.Leaving = append(d.record.Leaving, f)
		default:
			if err := d.removeFile(ctx, f); err != nil {
				return err
			}
		}
	}
	d.record.Held = left
	if len(d.record.Leaving) > 0 {
		if err := d.save(); err != nil {
			return err
		}
		if err := d.removeLeaving(ctx); err != nil {
			return err
		}
	}
	d.tidy()
	d.forget()
	return nil
}

// removeFile removes the file f, if it is still there, and its marker. It returns the cause of
// ctx.
func (d *directory) removeFile(ctx context.Context, f record.File) error {
	here, err := d.stillHere(ctx, &f)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d.unmark(f)
	if err == nil && here {
		if err = d.root.Remove(f.Path); err == nil {
			d.logger.Info("old version removed", "version", f.Version.String(), "file", d.full(f.Path))
		}
	}
	if err != nil { // one that cannot be read now may be another file
		d.logger.Warn("old version not removed", "version", f.Version.String(), "err", err)
	}
	return nil
}

// tidy removes the directories that we made and that are empty, and forgets those that hold
// only foreign files.
func (d *directory) tidy() {
	r := &d.record
	// A directory comes after those within it.
	slices.SortFunc(r.Dirs, func(a, b string) int { return len(b) - len(a) })
	r.Dirs = slices.DeleteFunc(r.Dirs, func(dir string) bool {
		if r.Uses(dir) {
			return false
		}
		if info, err := d.root.Lstat(dir); err == nil && info.IsDir() {
			_ = d.root.Remove(dir) // fails unless it is empty
		}
		return true
	})
}

// delivered records that f was delivered, while offers were on offer.
func (d *directory) delivered(f record.File, offers []distfile.Entry) error {
	d.record.Deliver(f, offers)
	return d.save()
}

// startOver records that numbers have begun again, with what is on offer.
func (d *directory) startOver(offers []distfile.Entry) error {
	d.record.StartOver(offers)
	return d.save()
}
