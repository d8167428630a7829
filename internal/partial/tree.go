package partial

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/reuse"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// directory is the partial directory of a version that is a tree. It has
//
//	lock       held by the download
//	version    which version it is of, as the footer of a partial file says it, and by which list
//	tree/      the files, which gets the final name
//	rest       of a part of a tree, the bytes of other files that its shards have
//	replaced   which directory is replaced in steps, see [replacedName]
type directory struct {
	dir     *os.Root
	base    string       // the final name
	replace bool         // a directory that has the final name
	may     func() error // or nil, is asked before it is replaced
	part    *os.Root
	lock    *os.File
	within  *os.Root // tree/
	rest    *os.File // of a part, or nil
	files   *tree.Dir
	size    int64 // of the shards that it needs
	placed  bool
}

// Names in a partial directory.
const (
	lockName    = "lock"
	versionName = "version"
	treeName    = "tree"
	restName    = "rest"
)

// openTree opens the partial directory at to for the tree t, whose manifest is m, and
// reports whether files of an earlier download are in it, also with an error.
func openTree(
	ctx context.Context, to Target, m shard.Manifest, t *tree.Tree, afresh bool,
) (*directory, bool, error) {
	c := &directory{dir: to.Dir, base: to.Base, replace: to.Replace, may: to.MayReplace}
	if err := c.claim(ctx); err != nil {
		return nil, true, err
	}
	var resumed bool
	restored, err := settle(c.dir, Name(c.base), c.part)
	c.replace = c.replace || restored
	if err == nil {
		resumed, err = c.prepare(m, to.Part, afresh)
	}
	switch {
	case err != nil:
	case to.Part == nil:
		c.files, err = tree.NewDir(c.within, t)
	default:
		if c.rest, err = c.part.OpenFile(restName, os.O_RDWR|os.O_CREATE, 0o600); err == nil {
			c.files, err = tree.NewPartDir(c.within, to.Part, c.rest)
		}
	}
	if err != nil {
		return nil, resumed, errors.Join(err, c.End(resumed))
	}
	return c, resumed, nil
}

// claim makes the partial directory and locks it.
func (c *directory) claim(ctx context.Context) error {
	for {
		gone, err := c.tryClaim(ctx)
		if !gone || ctx.Err() != nil {
			return err
		}
	}
}

// tryClaim is one try of claim. It reports whether another download removed the directory
// meanwhile.
func (c *directory) tryClaim(ctx context.Context) (gone bool, err error) {
	name := Name(c.base)
	// A partial file is one of a version that was a file.
	if info, err := c.dir.Lstat(name); err == nil && info.Mode().IsRegular() {
		if err := removeUnused(c.dir, name); err != nil {
			return false, err
		}
	}
	if err := disk.MakePrivate(c.dir, name); err != nil {
		return false, err
	}
	if c.part, err = c.dir.OpenRoot(name); err != nil {
		return false, err
	}
	if c.lock, err = disk.Lock(ctx, c.part, lockName); err != nil {
		return errors.Is(err, fs.ErrNotExist), errors.Join(err, c.part.Close())
	}
	named, err := c.dir.Lstat(name)
	here, failed := c.part.Stat(".")
	if err == nil && failed == nil && os.SameFile(named, here) {
		return false, nil
	}
	failed = errors.Join(failed, c.lock.Close(), c.part.Close())
	return failed == nil, failed
}

// prepare makes the partial directory ready for m, and reports whether files of an earlier
// download of it are there.
func (c *directory) prepare(m shard.Manifest, part *tree.Part, afresh bool) (resumed bool, err error) {
	// By another list, files of other paths may be there.
	want := []byte(footerOf(m.Digest) + m.Files.Digest.String() + "\n")
	c.size = m.Size
	if part != nil {
		c.size = partSize(m, part)
		want = append(want, shard.Digest(sha256.Sum256(part.Tree().Encode())).String()+"\n"...)
	}
	if !afresh {
		was, err := c.part.ReadFile(versionName)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true, err // what cannot be read now may be right
		}
		resumed = bytes.Equal(was, want)
	}
	if !resumed {
		for _, name := range []string{treeName, restName} {
			if err := disk.RemoveAll(c.part, name); err != nil {
				return false, fmt.Errorf("remove %s, of an earlier download: %w",
					filepath.Join(c.part.Name(), name), err)
			}
		}
		if err := disk.WriteFile(c.part, versionName+".tmp", versionName, want, 0o600); err != nil {
			return false, err
		}
	}
	if err := c.part.Mkdir(treeName, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return resumed, err
	}
	if c.within, err = c.part.OpenRoot(treeName); err != nil {
		return resumed, err
	}
	return resumed, nil
}

// partSize is the size of the shards of m that part needs, in bytes.
func partSize(m shard.Manifest, part *tree.Part) (size int64) {
	for number := range part.Shards(m) {
		size += m.Shard(number).Size
	}
	return size
}

// Begin returns an error unless there is room.
func (c *directory) Begin(shared int64) error {
	return disk.Need(c.dir.Name(), c.size-disk.AllocatedBelow(c.within)-shared)
}

// Shared asks the file system of each file.
func (c *directory) Shared(src *os.File, from, offset, size int64) int64 {
	return c.files.Shared(src, from, offset, size)
}

// ReadAt reads from the files.
func (c *directory) ReadAt(p []byte, offset int64) (int, error) { return c.files.ReadAt(p, offset) }

// WriteAt writes to the files.
func (c *directory) WriteAt(p []byte, offset int64) (int, error) { return c.files.WriteAt(p, offset) }

// Check compares the headers of files with the list.
func (c *directory) Check(offset, size int64) error { return c.files.Check(offset, size) }

// CopyAt copies to the files.
func (c *directory) CopyAt(src *os.File, from, offset, size int64) error {
	return c.files.CopyAt(src, from, offset, size)
}

// Written leaves out small parts, such as the headers of files that are missing: each gap
// between two parts costs a request.
func (c *directory) Written(from, to int64) ([]disk.Range, error) {
	ranges, err := c.files.Written(from, to)
	return reuse.Worthwhile(ranges, to-from), err
}

// Flush does nothing: the files flush themselves, and the end syncs them all.
func (c *directory) Flush(int64, int64) {}

// Place gives the files' directory the final name, in place of the one that may be replaced.
func (c *directory) Place() error {
	// Where the file system cannot mark it, the next download asks for --replace.
	_ = disk.Mark(c.within)
	if err := c.files.Finish(); err != nil {
		return err
	}
	from := path.Join(Name(c.base), treeName)
	var err error
	if there, missing := c.dir.Lstat(c.base); c.replace && missing == nil {
		// A directory that its owner may not write to cannot be moved.
		disk.KeepPermissions(c.within, there, 0o700)
		if err = c.exchange(from); err == nil {
			disk.KeepPermissions(c.within, there, 0)
		}
	} else {
		err = c.dir.Rename(from, c.base) // also in place of an empty directory
	}
	c.placed = err == nil
	return err
}

// exchange gives the directory from the final name, and the one that has it the name from.
// That is removed in the end; until then no download may take it for one that has begun.
func (c *directory) exchange(from string) error {
	if c.may != nil {
		if err := c.may(); err != nil {
			return err
		}
	}
	text, err := c.part.ReadFile(versionName)
	if err != nil {
		return err
	}
	if err := c.part.Remove(versionName); err != nil {
		return err
	}
	err = disk.Exchange(c.dir, from, c.base)
	if errors.Is(err, errors.ErrUnsupported) {
		err = c.replaceInSteps(from)
	}
	if err != nil {
		err = errors.Join(err, c.part.WriteFile(versionName, text, 0o600))
	}
	return err
}

// End closes the files.
func (c *directory) End(keep bool) error {
	var err error
	if c.files != nil {
		err = c.files.Close()
	}
	if c.within != nil {
		err = errors.Join(err, c.within.Close())
	}
	if c.rest != nil {
		err = errors.Join(err, c.rest.Close())
	}
	if keep && !c.placed {
		return errors.Join(err, c.lock.Close(), c.part.Close())
	}
	return errors.Join(err, removePart(c.dir, Name(c.base), c.part, c.lock))
}

// removePart removes the partial directory name in dir, which is part, and closes part and its
// lock.
func removePart(dir *os.Root, name string, part *os.Root, lock *os.File) error {
	// The lock goes last, so that no other download finds half of it.
	_, err := settle(dir, name, part)
	if err = errors.Join(err, disk.RemoveAll(part, treeName), part.RemoveAll(versionName)); err != nil {
		return errors.Join(err, lock.Close(), part.Close())
	}
	failed := dir.RemoveAll(name)
	err = errors.Join(lock.Close(), part.Close())
	if errors.Is(failed, fs.ErrExist) { // it is not empty
		// NFS and FUSE keep a file that is removed while it is open, as the lock is, under another
		// name until it is closed. If another download has begun meanwhile, the directory stays.
		failed = dir.Remove(name)
		if errors.Is(failed, fs.ErrExist) || errors.Is(failed, fs.ErrNotExist) {
			failed = nil
		}
	}
	return errors.Join(err, failed)
}

// Share opens the files once more.
func (c *directory) Share() (Reader, error) {
	within, err := c.part.OpenRoot(treeName)
	if err != nil {
		return nil, err
	}
	return tree.NewReader(within, c.files.Tree()), nil
}

// CheckTree returns an error if a directory cannot or must not get the name base in dir,
// and otherwise whether one of that name is to be replaced: any if insisted is set, else only
// one that a download has put there.
func CheckTree(dir *os.Root, base string, insisted bool) (replace bool, err error) {
	info, err := dir.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, disk.CheckPlace(dir, base)
	case err != nil:
		return false, err
	case !info.IsDir():
		return false, errors.New("it is a file, and the version is a directory; name another path")
	}
	there, err := dir.OpenRoot(base)
	if err != nil {
		return false, err
	}
	defer there.Close()
	empty, err := disk.IsEmpty(there)
	if err != nil {
		return false, err
	}
	if !empty && !insisted && !disk.IsMarked(there) {
		return false, errors.New("it is a directory that no download has put there; " +
			"name another path, or use --replace to have it replaced with all that is in it")
	}
	return true, disk.CheckDirectory(dir, base)
}
