package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/release"
)

// memoryPatience is how long a writer waits for another one to note what it signs.
const memoryPatience = 10 * time.Second

// A Memory is what a user has signed on this machine: of each key and feed the highest epoch and
// sequence number. By it a data directory is recognised that is a copy, or was restored: its
// releases would be lower, and readers would ignore them. The zero value remembers nothing.
type Memory struct {
	// Dir is the directory of its files, which is made if it is missing.
	Dir string
}

// position is the place of a release among those of its feed.
type position struct {
	Epoch uint64 `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// before reports whether p is lower than other.
func (p position) before(other position) bool {
	return p.Epoch < other.Epoch || p.Epoch == other.Epoch && p.Seq < other.Seq
}

// record is the content of a file.
type record struct {
	Key  string   `json:"key"`
	Feed string   `json:"feed"`
	Last position `json:"last"`
}

// last returns the highest position of the feed that the key has signed, which is zero where
// none is known.
func (m Memory) last(key release.PublicKey, feed string) (p position, err error) {
	err = m.in(func(root *os.Root) error {
		p, err = readRecord(root, key, feed)
		return err
	})
	return p, err
}

// keep notes that the key is about to sign p, unless it has signed a higher one.
func (m Memory) keep(key release.PublicKey, feed string, p position) error {
	return m.in(func(root *os.Root) error {
		name := recordName(key, feed)
		ctx, cancel := context.WithTimeout(context.Background(), memoryPatience)
		defer cancel()
		lock, err := disk.Lock(ctx, root, name+".lock")
		if err != nil {
			return err
		}
		defer lock.Close()
		before, err := readRecord(root, key, feed)
		if err != nil || !before.before(p) {
			return err
		}
		text, err := json.Marshal(record{Key: key.String(), Feed: feed, Last: p})
		if err != nil {
			return err
		}
		return disk.WriteFile(root, name+".tmp", name, append(text, '\n'), 0o600)
	})
}

// in calls f with the directory.
func (m Memory) in(f func(*os.Root) error) error {
	if m.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(m.Dir)
	if err != nil {
		return err
	}
	return errors.Join(f(root), root.Close())
}

// readRecord returns the position in the file of the key and feed, or zero without one.
func readRecord(root *os.Root, key release.PublicKey, feed string) (position, error) {
	name := recordName(key, feed)
	text, err := disk.ReadFile(root, name, mostPrivate)
	if errors.Is(err, fs.ErrNotExist) {
		return position{}, nil
	}
	var r record
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err == nil && (r.Key != key.String() || r.Feed != feed) {
		err = errors.New("it is of another key or feed")
	}
	if err != nil {
		return position{}, fmt.Errorf("%s: %w; mend or remove it", name, err)
	}
	return r.Last, nil
}

// recordName is the name of the file of the key and feed.
func recordName(key release.PublicKey, feed string) string {
	sum := sha256.Sum256([]byte(key.String() + "\n" + feed))
	return fmt.Sprintf("signed-%x.json", sum[:8])
}
