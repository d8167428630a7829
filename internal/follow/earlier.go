package follow

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/record"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/tree"
)

// earlierSuffix ends the names, in the hidden directory, of the lists of trees that earlier releases wrote.
const earlierSuffix = ".files"

// earlierFile is a line of such a list: a file, or an empty directory, in the order of their paths.
type earlierFile struct {
	Path       string       `json:"path"`
	Directory  bool         `json:"directory,omitempty"`
	Executable bool         `json:"executable,omitempty"`
	Size       int64        `json:"size"`
	Digest     shard.Digest `json:"digest,omitzero"`
	Modified   int64        `json:"modified,omitempty"` // in nanoseconds since 1970
}

// takeOver brings the descriptions of versions, and the lists of trees beside them, of earlier releases into
// the form of this one. What cannot be read is as if it were not there.
func (d *directory) takeOver() error {
	for _, f := range d.record.Files() {
		old := path.Join(describedName, f.Version.String())
		if m, err := d.readManifest(old); err == nil && describes(m, f) && d.isMissing(described(f)) {
			if err := d.root.Rename(old, described(f)); err != nil {
				return err
			}
		}
		if f.IsTree() {
			if err := d.takeOverList(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// describes reports whether m is the manifest of f, as far as a description needs to be.
func describes(m shard.Manifest, f record.File) bool {
	if f.IsTree() {
		return m.Files != nil && *m.Files == *f.Manifest.Files
	}
	return m.Files == nil && (m.Digest == f.Manifest.Digest || m.Digest == f.Offered)
}

// readManifest reads the manifest in a description.
func (d *directory) readManifest(described string) (shard.Manifest, error) {
	from, err := disk.OpenRegular(d.root, path.Join(described, shard.ManifestName))
	if err != nil {
		return shard.Manifest{}, err
	}
	defer from.Close()
	return shard.ParseManifest(from)
}

// takeOverList has the list and the times of the tree f in its description, and not beside that.
func (d *directory) takeOverList(f record.File) error {
	name := path.Join(record.Hidden, f.Version.String()+"-"+f.Manifest.Files.Digest.String()[:16]+earlierSuffix)
	from, err := disk.OpenRegular(d.root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var l list
	if err == nil {
		l, err = parseEarlier(bufio.NewReader(from))
		err = errors.Join(err, from.Close())
	}
	if err == nil {
		var described *shard.Files
		if described, err = l.tree.Write(io.Discard); err == nil && *described != *f.Manifest.Files {
			err = fmt.Errorf("%w: it is not the version's", tree.ErrTree)
		}
	}
	if err != nil {
		d.logger.Warn("file cannot be read now", "version", f.Version.String(), "file", d.full(name), "err", err)
		return nil
	}
	if err := d.root.Mkdir(described(f), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if d.isMissing(path.Join(described(f), shard.FilesName)) {
		err = d.writeDescription(f, shard.FilesName, func(to io.Writer) error {
			_, err := l.tree.Write(to)
			return err
		})
	}
	if err == nil {
		err = d.writeTimes(f, l)
	}
	if err == nil {
		err = d.root.Remove(name)
	}
	return err
}

// parseEarlier parses a list of an earlier release.
func parseEarlier(from io.Reader) (list, error) {
	var files []tree.File
	var modified []int64
	for lines := json.NewDecoder(from); ; {
		var l earlierFile
		if err := lines.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return list{}, fmt.Errorf("line %d: %w", len(files)+1, err)
		}
		if len(files) == shard.MaxFiles {
			return list{}, fmt.Errorf("more than %d files", shard.MaxFiles)
		}
		files = append(files, tree.File{
			Path: l.Path, Directory: l.Directory, Executable: l.Executable, Size: l.Size, Digest: l.Digest,
		})
		modified = append(modified, l.Modified)
	}
	t, err := tree.Lay(files)
	return list{t, modified}, err
}
