package trust

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
)

const (
	// lockName is the file in the state directory that is locked while it is changed, and temp the
	// name that a file has at first.
	lockName = "releases.lock"
	tempName = "releases.tmp"

	// lockPatience is how long a change waits for another one, which takes milliseconds.
	lockPatience = 10 * time.Second
)

// state is a state directory, which may be missing, or of no use.
type state struct {
	dir string // empty without one
	log *slog.Logger

	said sync.Once
}

// fileName is that of the newest release of a key: feed and key may have characters that no name has.
func (k *Keeper) fileName(key release.PublicKey) string {
	id := shard.Digest(sha256.Sum256([]byte(k.feed + "\n" + key.String())))
	return "release-" + id.String()[:32] + ".txt"
}

// read returns the content of a file, or nothing.
func (s *state) read(name string) []byte {
	if s.dir == "" {
		return nil
	}
	root, err := os.OpenRoot(s.dir)
	if err == nil {
		defer root.Close()
		var file []byte
		if file, err = disk.ReadFile(root, name, release.MaxSize); err == nil {
			return file
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.warn(err)
	}
	return nil
}

// update has f decide, while no other process changes the directory, which file gets which content,
// if any. The content is on the disk when it returns. Where the directory cannot be used, f is not
// called.
func (s *state) update(ctx context.Context, f func() (name string, file []byte)) {
	if s.dir == "" {
		return
	}
	root, unlock, err := s.lock(ctx)
	if err != nil {
		s.warn(err)
		return
	}
	defer unlock()
	name, file := f()
	if name == "" {
		return
	}
	if err := disk.WriteFile(root, tempName, name, file, 0o600); err != nil {
		s.warn(err)
	}
}

// lock opens the directory, which it makes if it is missing, for this process alone.
func (s *state) lock(ctx context.Context) (root *os.Root, unlock func(), err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, nil, err
	}
	if root, err = os.OpenRoot(s.dir); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	lock, err := disk.Lock(ctx, root, lockName)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("lock the state directory: %w", err), root.Close())
	}
	return root, func() { _ = errors.Join(lock.Close(), root.Close()) }, nil
}

// warn says once that the past is not known, or will not be.
func (s *state) warn(err error) {
	s.said.Do(func() {
		s.log.Warn("state directory of no use", "dir", s.dir, "err", err,
			"hint", "without it, a server can pass an older release off as the newest after a restart")
	})
}
