package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// probeSize is the size in bytes of the file by which Python clients measure a server.
const probeSize = 1 << 20

// Export makes the directory out, which must be missing or empty, one that programs of the
// Python package 0.3 can serve and read: the versions of st with the lines and the names of
// that release. Shards are hard links where the file system has them, else copies. The
// directory appears when all of it is there; an error leaves none. A digest that the data
// directory has no record of is computed.
func Export(ctx context.Context, st *store.Store, out string) (versions int, err error) {
	if there, err := os.ReadDir(out); err == nil && len(there) > 0 {
		return 0, fmt.Errorf("export to %s: it is not empty; name a new directory", out)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("export: %w", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(filepath.Clean(out)), ".shardcast-export-*")
	if err != nil {
		return 0, fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("export: %w", err), os.RemoveAll(temp))
		}
	}()
	entries, err := st.Distribution()
	if err != nil {
		return 0, err
	}
	for i, e := range entries {
		if entries[i], err = exportVersion(ctx, st, e, filepath.Join(temp, e.Version.String())); err != nil {
			return 0, fmt.Errorf("%s: %w", e.Version, err)
		}
	}
	for name, text := range map[string][]byte{
		"data1.bin": make([]byte, probeSize), distfile.FileName: distfile.Encode(entries),
	} {
		if err := os.WriteFile(filepath.Join(temp, name), text, 0o644); err != nil {
			return 0, err
		}
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return 0, err
	}
	return len(entries), os.Rename(temp, out)
}

// exportVersion makes the directory dir of the version e, and returns its line.
func exportVersion(ctx context.Context, st *store.Store, e distfile.Entry, dir string) (distfile.Entry, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return e, err
	}
	var count int
	var known shard.Digest
	f, err := st.Manifest(e.Version)
	switch {
	case err == nil:
		m, err := shard.ParseManifest(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return e, err
		}
		count = len(m.Shards)
		known, _ = st.BLAKE3(e.Version) // else it is computed
	case errors.Is(err, fs.ErrNotExist): // of a Python program
		numbers, err := st.Shards(e.Version)
		if err != nil {
			return e, err
		}
		slices.Sort(numbers)
		count = len(slices.Compact(numbers))
	default:
		return e, err
	}
	hash := shard.NewBLAKE3()
	var read io.Writer // nil if the digest is known
	if known == (shard.Digest{}) {
		read = hash
	}
	for number := 1; number <= count; number++ {
		if err := context.Cause(ctx); err != nil {
			return e, err
		}
		to := filepath.Join(dir, shard.LongFileName(number))
		if err := exportShard(st, e.Version, number, to, read); err != nil {
			return e, err
		}
	}
	if count == 0 { // Python programs fetch an empty file by its shards, too
		count = 1
		if err := os.WriteFile(filepath.Join(dir, shard.LongFileName(1)), nil, 0o644); err != nil {
			return e, err
		}
	}
	if read != nil {
		known = shard.Digest(hash.Sum(nil))
	}
	return distfile.Entry{Version: e.Version, Digest: known, Count: count}, nil
}

// exportShard gives a shard the name to, and writes its bytes to read, unless that is nil.
func exportShard(st *store.Store, v shard.Version, number int, to string, read io.Writer) error {
	f, done, err := st.Shard(v, number)
	if err != nil {
		return err
	}
	defer done()
	defer f.Close()
	if read != nil {
		if _, err := io.Copy(read, f); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	if os.Link(f.Name(), to) == nil {
		return nil
	}
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, f)
	return errors.Join(err, target.Close())
}
