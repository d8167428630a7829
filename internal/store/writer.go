package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

// forever is how long a writer waits for the others: a large file takes long to
// cut.
const forever = time.Duration(math.MaxInt64)

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
	lock, err := s.lock(ctx, writeLock, forever)
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
	// Without a server nobody is reading: whoever serves the directory with
	// another program cannot see a retired version anyway.
	if !w.locked(w.role.lock()) {
		err = w.removeRetired(func(shard.Version) bool { return true })
	}
	for _, lock := range w.locks {
		err = errors.Join(err, lock.Close())
	}
	return err
}

// Next returns the version number after the highest ever used, passing over
// those whose name is taken by something that is not ours.
func (w *Writer) Next() (shard.Version, error) {
	for v := w.last + 1; v <= shard.MaxVersion; v++ {
		if free, err := w.free(v); err != nil || free {
			return v, err
		}
	}
	return 0, fmt.Errorf("data directory %s: no version number is left after %s", w.dir, w.last)
}

// free reports whether nothing in the data directory has the name of v.
func (w *Writer) free(v shard.Version) (bool, error) {
	_, err := w.root.Lstat(v.String())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// Publish moves the draft d to its place and puts it on offer, and retires the
// oldest versions of which there are more than keep. When it returns nil, all of
// it is on the disk, and the draft must not be used any more; on an error the
// draft is still there. A version that would itself be one of the oldest stays a
// draft.
func (w *Writer) Publish(d *Draft, m shard.Manifest, keep int) error {
	held, err := w.listed()
	if err != nil {
		return err
	}
	now := append(slices.Clone(held), distfile.Entry{Version: d.version, Digest: m.Digest})
	slices.SortFunc(now, func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) })
	surplus := versionsOf(now[:max(0, len(now)-keep)])
	if slices.Contains(surplus, d.version) {
		return nil
	}
	if free, err := w.free(d.version); err != nil {
		return err
	} else if !free {
		return fmt.Errorf("publish %s: there is something of that name in %s", d.version, w.dir)
	}
	if err := d.finish(m); err != nil {
		return err
	}
	// What was retired under the same number is of another file.
	if err := w.removeAll(path.Join(retired, d.version.String())); err != nil {
		return err
	}
	return w.change(now[len(surplus):], d, surplus, retired)
}

// Trim retires the oldest versions of which there are more than keep.
func (w *Writer) Trim(keep int) error {
	held, err := w.listed()
	if err != nil {
		return err
	}
	return w.Retire(versionsOf(held[:max(0, len(held)-keep)])...)
}

// Retire takes those of versions that are on offer off it. Those who are reading
// them may finish, see [Store.Sweep].
func (w *Writer) Retire(versions ...shard.Version) error {
	return w.remove(versions, retired)
}

// Withdraw takes v off the offer and makes it a draft again, for what is wrong
// with it to be fetched anew.
func (w *Writer) Withdraw(v shard.Version) error {
	return w.remove([]shard.Version{v}, drafts)
}

func (w *Writer) remove(versions []shard.Version, where string) error {
	held, err := w.listed()
	if err != nil {
		return err
	}
	var kept, gone []distfile.Entry
	for _, e := range held {
		if slices.Contains(versions, e.Version) {
			gone = append(gone, e)
		} else {
			kept = append(kept, e)
		}
	}
	if gone == nil {
		return nil
	}
	return w.change(kept, nil, versionsOf(gone), where)
}

// listed returns the versions on offer, and an error if there are lines that say
// nothing: to write the distribution again would lose them.
func (w *Writer) listed() ([]distfile.Entry, error) {
	entries, skipped, err := w.distribution()
	if err == nil && skipped != nil {
		err = fmt.Errorf("data directory %s: %w; mend or remove the line", w.dir, skipped[0])
	}
	return entries, err
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
	if err := w.put(offer, draft); err != nil {
		return errors.Join(err, w.writeState(nil))
	}
	// It is done, for all to see. What fails from here on is in the state for the
	// next writer to do again.
	if w.moveAway(gone, where) == nil {
		_ = w.writeState(nil)
	}
	return nil
}

// put moves the draft, if any, to its place, and makes offer the distribution.
// On an error the draft and the distribution are what they were.
func (w *Writer) put(offer []distfile.Entry, draft *Draft) (err error) {
	before, err := w.listed()
	if err != nil {
		return err
	}
	if draft != nil {
		if err := w.rename(draft.path(), draft.version.String()); err != nil {
			return fmt.Errorf("publish %s: %w", draft.version, err)
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, w.rename(draft.version.String(), draft.path()))
			}
		}()
		if err := disk.SyncDir(w.root, "."); err != nil {
			return err
		}
	}
	if err := w.writeFile(distfile.FileName, distfile.Encode(offer)); err != nil {
		// It may have got its name all the same, and only not made that last.
		if now, _ := w.Distribution(); !slices.Equal(now, before) {
			err = errors.Join(err, w.writeFile(distfile.FileName, distfile.Encode(before)))
		}
		return err
	}
	return nil
}

// moveAway moves the directories of versions, as far as they are there, to the
// directory where, in place of what is there under the same names.
func (w *Writer) moveAway(versions []shard.Version, where string) error {
	for _, v := range versions {
		if free, err := w.free(v); err != nil {
			return err
		} else if free {
			continue
		}
		to := path.Join(where, v.String())
		if err := w.removeAll(to); err != nil {
			return err
		}
		if err := w.rename(v.String(), to); err != nil {
			return err
		}
	}
	return nil
}

// recover reads the state, and takes away the directories and files that a crash
// has left. An unlisted version becomes a draft again where it can be used, which
// is with a middle.
func (w *Writer) recover() error {
	var st state
	text, err := w.root.ReadFile(stateName)
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data directory %s: %s: %w", w.dir, stateName, err)
	}
	held, err := w.listed()
	if err != nil {
		return err
	}
	for _, name := range []string{distfile.FileName, stateName} {
		if err := w.root.Remove(tempName(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	w.last = st.Last
	for _, e := range held {
		w.last = max(w.last, e.Version)
		st.Moving = slices.DeleteFunc(st.Moving, func(v shard.Version) bool { return v == e.Version })
	}
	if len(st.Moving) == 0 {
		return nil
	}
	where := retired
	if w.role == Middle {
		where = drafts
	}
	if err := w.moveAway(st.Moving, where); err != nil {
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
