package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/gofrs/flock"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// A Writer changes what a data directory offers. There is one at a time among
// all processes, from [Store.Lock] to [Writer.Unlock].
type Writer struct {
	*Store

	locks []*flock.Flock
	last  shard.Version // the highest number ever used
}

// state is what state.json holds.
type state struct {
	// Last is the highest version number that was ever used.
	Last shard.Version `json:"last"`

	// Moving are versions whose directories were about to be moved into or out of
	// the data directory when this was written. One of them that is here without
	// being listed is what a crash has left.
	Moving []shard.Version `json:"moving,omitempty"`
}

// Lock waits until no other process changes the directory, undoes what a crash
// of the last one has left halfway, and returns a Writer. It returns an error
// matching [ErrInUse] if a server of another role keeps the directory, and what
// ended ctx.
func (s *Store) Lock(ctx context.Context) (*Writer, error) {
	others, err := s.keepOut(ctx)
	if err != nil {
		return nil, err
	}
	lock, err := s.lock(ctx, writeLock)
	if err != nil {
		return nil, errors.Join(err, others.Close())
	}
	w := &Writer{Store: s, locks: []*flock.Flock{lock, others}}
	if err := w.recover(); err != nil {
		return nil, errors.Join(err, w.Unlock())
	}
	return w, nil
}

// Unlock lets the next writer go on. What has been retired since, and what no
// server keeps for its readers, is removed first.
func (w *Writer) Unlock() error {
	var err error
	server := w.flock(w.role.lock())
	// Without a server nobody is reading: whoever serves the directory with
	// another program cannot see a retired version anyway.
	if free, _ := server.TryRLock(); free {
		err = w.removeRetired(func(shard.Version) bool { return true })
	}
	err = errors.Join(err, server.Close())
	for _, lock := range w.locks {
		err = errors.Join(err, lock.Close())
	}
	return err
}

// Next returns the version number after the highest ever used, passing over
// those whose name is taken by something that is not ours.
func (w *Writer) Next() (shard.Version, error) {
	for v := w.last + 1; ; v++ {
		if _, err := w.root.Lstat(v.String()); errors.Is(err, fs.ErrNotExist) {
			return v, nil
		} else if err != nil {
			return 0, err
		}
	}
}

// Publish moves the draft d to its place and puts it on offer, and retires the
// oldest versions of which there are more than keep. When it returns, all of it
// is on the disk. The draft must not be used afterwards; on an error it is still
// there.
func (w *Writer) Publish(d *Draft, m shard.Manifest, keep int) error {
	if err := d.finish(m); err != nil {
		return err
	}
	held, err := w.Distribution()
	if err != nil {
		return err
	}
	now := append(held, distfile.Entry{Version: d.version, Digest: m.Digest})
	slices.SortFunc(now, func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) })
	surplus := now[:max(0, len(now)-keep)]
	return w.change(now[len(surplus):], d, versionsOf(surplus), retired)
}

// Retire takes versions off the offer. Those who are reading them may finish,
// see [Store.Sweep].
func (w *Writer) Retire(versions ...shard.Version) error {
	return w.remove(versions, retired)
}

// Withdraw takes v off the offer and makes it a draft again, for what is wrong
// with it to be fetched anew.
func (w *Writer) Withdraw(v shard.Version) error {
	return w.remove([]shard.Version{v}, drafts)
}

func (w *Writer) remove(versions []shard.Version, where string) error {
	held, err := w.Distribution()
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(held), func(e distfile.Entry) bool {
		return slices.Contains(versions, e.Version)
	})
	if len(kept) == len(held) {
		return nil
	}
	return w.change(kept, nil, versions, where)
}

// change makes offer the distribution. The draft, if any, is moved to its place
// before that, and the directories of gone to the directory where after it.
func (w *Writer) change(offer []distfile.Entry, draft *Draft, gone []shard.Version, where string) error {
	moving := slices.Clone(gone)
	if draft != nil {
		w.last = max(w.last, draft.version)
		moving = append(moving, draft.version)
	}
	if err := w.writeState(moving); err != nil {
		return err
	}
	if draft != nil && !slices.Contains(gone, draft.version) {
		if err := w.root.Rename(draft.path(), draft.version.String()); err != nil {
			return fmt.Errorf("publish %s: %w", draft.version, err)
		}
		if err := disk.SyncDir(w.root, "."); err != nil {
			return errors.Join(err, w.root.Rename(draft.version.String(), draft.path()))
		}
	}
	if err := w.writeFile(distfile.FileName, distfile.Encode(offer)); err != nil {
		if draft != nil {
			err = errors.Join(err, w.root.Rename(draft.version.String(), draft.path()))
		}
		return err
	}
	if err := w.moveAway(gone, where); err != nil {
		return err
	}
	return w.writeState(nil)
}

// moveAway moves the directories of versions to the directory where, in place
// of what is there under the same names.
func (w *Writer) moveAway(versions []shard.Version, where string) error {
	for _, v := range versions {
		to := path.Join(where, v.String())
		if err := w.root.RemoveAll(to); err != nil {
			return err
		}
		if err := w.root.Rename(v.String(), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// recover reads the state, and takes away the directories that a crash has left
// unlisted.
func (w *Writer) recover() error {
	var st state
	text, err := w.root.ReadFile(stateName)
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data directory %s: %s: %w", w.dir, stateName, err)
	}
	held, err := w.Distribution()
	if err != nil {
		return err
	}
	w.last = st.Last
	for _, e := range held {
		w.last = max(w.last, e.Version)
		st.Moving = slices.DeleteFunc(st.Moving, func(v shard.Version) bool { return v == e.Version })
	}
	if len(st.Moving) == 0 {
		return nil
	}
	if err := w.moveAway(st.Moving, retired); err != nil {
		return err
	}
	return w.writeState(nil)
}

func (w *Writer) writeState(moving []shard.Version) error {
	text, err := json.Marshal(state{Last: w.last, Moving: moving})
	if err != nil {
		return err
	}
	return w.writeFile(stateName, append(text, '\n'))
}

func versionsOf(entries []distfile.Entry) []shard.Version {
	versions := make([]shard.Version, len(entries))
	for i, e := range entries {
		versions[i] = e.Version
	}
	return versions
}
