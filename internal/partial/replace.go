package partial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shardcast/shardcast/internal/disk"
)

// replacedName is the name of a file in a partial directory, from before a directory is replaced in steps until
// that has gone: its inode, a space, and which name it has had. Nothing else that has the hidden name is removed.
const replacedName = "replaced"

// oldSuffix ends the hidden name of a directory that is being replaced by a new one.
const oldSuffix = ".shardcast-old"

// oldName is the hidden name of a directory while it is being replaced, by that of the partial directory.
func oldName(part string) string { return strings.TrimSuffix(part, Suffix) + oldSuffix }

// replaceInSteps gives the directory from the final name, and moves the one that has it aside. If this process
// dies in between, [settle] ends it.
func (c *directory) replaceInSteps(from string) error {
	old := oldName(Name(c.base))
	if _, err := c.dir.Lstat(old); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s is in the way; move it elsewhere", filepath.Join(c.dir.Name(), old)))
	}
	there, err := c.dir.Lstat(c.base)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d %s", disk.Inode(there), c.base)
	if err := disk.WriteFile(c.part, replacedName+".tmp", replacedName, []byte(text), 0o600); err != nil {
		return err
	}
	if err := c.dir.Rename(c.base, old); err != nil {
		return err
	}
	if err := c.dir.Rename(from, c.base); err != nil {
		return errors.Join(err, c.dir.Rename(old, c.base))
	}
	return nil // the end of the partial directory removes it
}

// settle ends the replacement in steps during which a download was killed, by the note in part, the partial
// directory name in dir: the old directory goes if a new one has its name. Otherwise it is restored, which
// settle reports.
func settle(dir *os.Root, name string, part *os.Root) (restored bool, err error) {
	text, err := part.ReadFile(replacedName)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	number, base, _ := strings.Cut(string(text), " ")
	inode, _ := strconv.ParseUint(number, 10, 64) // none has 0
	old := oldName(name)
	info, err := dir.Lstat(old)
	if err == nil && info.IsDir() && disk.Inode(info) == inode && Name(base) == name {
		restored, err = endReplacement(dir, old, base)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return restored, err
	}
	return restored, part.Remove(replacedName)
}

// endReplacement removes the directory old if another one has its name, base, and otherwise restores it.
func endReplacement(dir *os.Root, old, base string) (restored bool, err error) {
	_, err = dir.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		err = dir.Rename(old, base)
		return err == nil, err
	}
	if err == nil {
		err = disk.RemoveAll(dir, old)
	}
	return false, err
}

// Settle ends what a download of a directory to the name base in dir, which was killed, has left undone when it
// replaced another one: that gets its name back, or goes if the new one has the name.
func Settle(dir *os.Root, base string) error {
	name := Name(base)
	part, err := dir.OpenRoot(name)
	if err != nil {
		return nil //nolint:nilerr // there is none, or it is a partial file
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel() // one look at the lock is enough
	if _, err := part.Lstat(lockName); err != nil {
		return part.Close() // no download has made it
	}
	lock, err := disk.Lock(ended, part, lockName)
	if err != nil { // a download uses it
		return part.Close()
	}
	// Without it nothing is to be continued: what was exchanged away is where the new directory was.
	if _, missing := part.Lstat(versionName); errors.Is(missing, fs.ErrNotExist) {
		return removePart(dir, name, part, lock)
	}
	_, err = settle(dir, name, part)
	return errors.Join(err, lock.Close(), part.Close())
}
