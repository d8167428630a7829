package follow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/record"
)

// mark writes the marker of f, if it has one.
func (d *directory) mark(f record.File) error {
	if f.Marker == "" {
		return nil
	}
	// Exclusively, so that a link in its place leads nowhere.
	marker, err := d.root.OpenFile(f.Marker, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) && d.isMarker(f.Marker) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(marker.Sync(), marker.Close(), disk.SyncDir(d.root, path.Dir(f.Marker)))
}

// unmark removes the marker of f, if it is still the empty file that was made.
func (d *directory) unmark(f record.File) {
	if f.Marker == "" {
		return
	}
	if d.isMarker(f.Marker) {
		_ = d.root.Remove(f.Marker) // a marker that stays keeps its directory, where it can be seen
	}
}

// isMarker reports whether an empty file has the name.
func (d *directory) isMarker(name string) bool {
	info, err := d.root.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == 0
}

// errLink is the error for a link whose name is taken.
var errLink = errors.New("it is not our link, and is not replaced")

// checkLink returns an error unless the link name is ours, or the name is free.
func (d *directory) checkLink(name string) error {
	if d.isMissing(name) {
		return nil
	}
	if _, err := d.root.Readlink(name); err != nil || d.record.Link != name {
		return fmt.Errorf("link %s: %w", d.full(name), errLink)
	}
	return nil
}

// point makes the link name point to f, by one rename.
func (d *directory) point(name string, f record.File) error {
	target := filepath.FromSlash(f.Path)
	if now, err := d.root.Readlink(name); err == nil && now == target && d.record.Link == name {
		return nil
	}
	if err := d.checkLink(name); err != nil {
		return err
	}
	if d.record.Link != name {
		d.unlink()
		d.record.Link = name
		if err := d.save(); err != nil {
			return err
		}
	}
	if err := d.root.Remove(linkTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.root.Symlink(target, linkTemp); err != nil {
		return err
	}
	if err := d.root.Rename(linkTemp, name); err != nil {
		return err
	}
	return disk.SyncDir(d.root, ".")
}

// unlink removes our link, because it has another name now.
func (d *directory) unlink() {
	if d.record.Link == "" {
		return
	}
	if _, err := d.root.Readlink(d.record.Link); err == nil {
		_ = d.root.Remove(d.record.Link) // one that stays points to a file of ours, or to none
	}
}
