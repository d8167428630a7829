package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
)

// forever is how long a writer waits for others: to cut a large file takes long.
const forever = time.Duration(math.MaxInt64)

// mostAhead is how far ahead a number of a middle counts as used. An origin needs a month for
// so many.
const mostAhead = 10_000

// A Writer changes the offer of a data directory. There is one at a time among all
// processes, from [Store.Lock] to [Writer.Unlock].
type Writer struct {
	store *Store
	locks []*os.File
	last  shard.Version // the highest number ever used
	own   shard.Version // the same for the state, without numbers of upstreams far ahead

	stuck     []shard.Version // off the offer, and still in place
	published []string        // directories
	withdrawn []shard.Version // ascending

	releases releases
}

// state is the content of state.json.
type state struct {
	// Last is the highest version number that was ever used. Of a middle's, which are those of
	// its upstreams, it leaves out one that is more than mostAhead ahead: near the largest it
	// would leave none for an origin in its place.
	Last shard.Version `json:"last"`

	// Moving are versions whose directories were about to be moved into or out of the data
	// directory when this was written. A crash has left one of them that is here and not
	// listed.
	Moving []shard.Version `json:"moving,omitempty"`

	// Withdrawn are the newest of those that were declared bad, ascending.
	Withdrawn []shard.Version `json:"withdrawn,omitempty"`

	// Seq is the number of the last release, or of one that was about to be signed.
	Seq uint64 `json:"seq,omitempty"`
}

// Lock waits until no other process changes the directory, undoes the half of a change that
// a crash has left, and returns a Writer. It returns an error matching [ErrInUse] if a
// server of another role keeps the directory, and the cause of the end of ctx.
func (s *Store) Lock(ctx context.Context) (*Writer, error) {
	others, err := s.keepOut(ctx)
	if err != nil {
		return nil, err
	}
	lock, err := s.lock(ctx, writeLock, forever)
	if err != nil {
		return nil, errors.Join(err, others.Close())
	}
	w := &Writer{store: s, locks: []*os.File{lock, others}}
	if err := w.recover(); err != nil {
		return nil, errors.Join(err, w.Unlock())
	}
	return w, nil
}

// Unlock lets the next writer go on. It first removes retired versions that no server keeps
// for its readers.
func (w *Writer) Unlock() error {
	var err error
	// Without a server of ours there are no readers: another program that serves the
	// directory does not see retired versions.
	if !w.store.locked(w.store.role.lock()) {
		err = w.store.removeRetired(func(shard.Version) bool { return true })
	}
	w.store.giveAway(append(w.published, private)...)
	for _, lock := range w.locks {
		err = errors.Join(err, lock.Close())
	}
	return err
}

// begin returns the settings of the directory, as they are until end is called, or an error if this
// process must not change the versions, see [Store.SignBy].
func (w *Writer) begin() (settings policy.Settings, end func() error, err error) {
	if err := w.releases.authorize(false); err != nil {
		return policy.Settings{}, nil, err
	}
	return w.store.holdSettings()
}

// Sign signs the release of the directory anew: the versions of the last one that are still here,
// and those of add, which are in place. It moves none. With newEpoch the release begins a new
// epoch, and the directory may be a copy, or was restored. Without a release, errors match [signing.ErrUnsigned]
// unless add has all versions on offer.
func (w *Writer) Sign(newEpoch bool, add ...release.Entry) (signed release.Signed, err error) {
	if w.store.signing == nil {
		return release.Signed{}, fmt.Errorf("%w: %s", signing.ErrSigned, w.store.dir)
	}
	if err := w.releases.adopt(newEpoch, add); err != nil {
		return release.Signed{}, err
	}
	_, end, err := w.begin()
	if err != nil {
		return release.Signed{}, err
	}
	defer func() { err = errors.Join(err, end()) }()
	offer, err := w.listed()
	if err != nil {
		return release.Signed{}, err
	}
	for _, line := range add {
		w.use(line.Version)
		if !slices.ContainsFunc(offer, func(e distfile.Entry) bool { return e.Version == line.Version }) {
			offer = append(offer, distfile.Entry{Version: line.Version, Digest: line.Digest})
		}
	}
	slices.SortFunc(offer, func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) })
	if err := w.change(change{offer: offer, add: add}); err != nil {
		return release.Signed{}, err
	}
	return *w.releases.last, nil
}

// Next returns the version number after the highest ever used, without those whose name
// belongs to a file that is not ours, or to a draft.
func (w *Writer) Next() (shard.Version, error) {
	for v := w.last + 1; v <= shard.MaxVersion; v++ {
		free, err := w.free(v.String())
		if err == nil && free {
			free, err = w.free(path.Join(drafts, v.String()))
		}
		if err != nil || free {
			return v, err
		}
	}
	return 0, fmt.Errorf("data directory %s: no version number is left after %s", w.store.dir, w.last)
}

// free reports whether the data directory has no file of that name.
func (w *Writer) free(name string) (bool, error) {
	_, err := w.store.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// Admit returns an error matching [policy.ErrLineage] if a new version with labels does not fit into its run,
// and where there is a release one if this process must not change it, see [Store.SignBy].
func (w *Writer) Admit(labels map[string]string) error {
	if err := w.releases.authorize(false); err != nil {
		return err
	}
	settings, err := w.store.Settings()
	if err != nil {
		return err
	}
	held, err := w.listed()
	if err != nil {
		return err
	}
	r := &labelReader{store: w.store}
	refused := settings.Admit(w.store.dir, held, labels, r.of)
	return cmp.Or(r.err, refused)
}

// Publish moves the draft d to its place and puts it on offer, and retires the versions
// that are not to be kept by the [policy.Settings]. When it returns nil, all of that is on the disk,
// and the draft must not be used any more; on an error the draft is still there. A version
// that would itself be one of the oldest stays a draft.
func (w *Writer) Publish(d *Draft, m shard.Manifest) (err error) {
	settings, end, err := w.begin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	held, err := w.listed()
	if err != nil {
		return err
	}
	entry := distfile.Entry{Version: d.version, Digest: m.Digest}
	w.store.knowLabels(entry, m.Labels)
	now := append(slices.Clone(held), entry)
	slices.SortFunc(now, func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) })
	surplus, err := w.store.surplus(settings, now)
	if err != nil {
		return err
	}
	if slices.Contains(surplus, d.version) {
		return nil
	}
	if free, err := w.free(d.version.String()); err != nil {
		return err
	} else if !free {
		return fmt.Errorf("publish %s: there is a file of that name in %s", d.version, w.store.dir)
	}
	if err := d.finish(m); err != nil {
		return err
	}
	// A retired version of the same number is of another file.
	old := path.Join(retired, d.version.String())
	if err := w.store.removeAll(old); err != nil {
		w.store.leave(old, err)
	}
	now = slices.DeleteFunc(now, func(e distfile.Entry) bool { return slices.Contains(surplus, e.Version) })
	if err := w.change(change{offer: now, draft: d, gone: surplus, where: retired}); err != nil {
		return err
	}
	w.logRetired(surplus, settings.Limit())
	return nil
}

// Trim retires the versions that are not to be kept by the [policy.Settings]. Where there is a release
// and this process has no key, it does nothing: the next publication retires them.
func (w *Writer) Trim() (err error) {
	settings, end, err := w.begin()
	if errors.Is(err, signing.ErrSigned) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	held, err := w.listed()
	if err != nil {
		return err
	}
	surplus, err := w.store.surplus(settings, held)
	if err != nil {
		return err
	}
	return w.retire(settings.Limit(), surplus)
}

// Retire takes versions off the offer, as far as they are on it, and logs each with the
// reason. Their readers may finish, see [Store.Sweep].
func (w *Writer) Retire(reason string, versions ...shard.Version) (err error) {
	_, end, err := w.begin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	return w.retire(reason, versions)
}

func (w *Writer) retire(reason string, versions []shard.Version) error {
	gone, err := w.remove(versions, retired)
	if err == nil {
		w.logRetired(gone, reason)
	}
	return err
}

func (w *Writer) logRetired(versions []shard.Version, reason string) {
	for _, v := range versions {
		w.store.logger.Info("version retired", "version", v.String(), "reason", reason)
	}
}

// Reopen takes v off the offer and makes it a draft again, so that its wrong shards can
// be fetched anew.
func (w *Writer) Reopen(v shard.Version) (err error) {
	_, end, err := w.begin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	_, err = w.remove([]shard.Version{v}, drafts)
	return err
}

// mostWithdrawn bounds the versions that are remembered as withdrawn: the newest ones.
const mostWithdrawn = 200

// Withdraw declares v bad: it is off the offer and off the disk at once, also for its readers,
// and [Store.IsWithdrawn] of it from then on. It need not be on offer.
func (w *Writer) Withdraw(v shard.Version) (err error) {
	_, end, err := w.begin()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if at, found := slices.BinarySearch(w.withdrawn, v); !found {
		w.withdrawn = slices.Insert(w.withdrawn, at, v)
		w.withdrawn = w.withdrawn[max(0, len(w.withdrawn)-mostWithdrawn):]
	}
	gone, err := w.remove([]shard.Version{v}, retired)
	if err == nil && gone == nil {
		err = w.writeState(nil)
	}
	if err != nil {
		return err
	}
	for _, name := range []string{path.Join(retired, v.String()), path.Join(drafts, v.String())} {
		if err := w.store.removeAll(name); err != nil {
			w.store.leave(name, err)
		}
	}
	w.store.logger.Warn("version withdrawn", "version", v.String())
	return nil
}

// remove takes versions off the offer and moves them to the directory where. It returns
// those that were on it.
func (w *Writer) remove(versions []shard.Version, where string) (gone []shard.Version, err error) {
	held, err := w.listed()
	if err != nil {
		return nil, err
	}
	var kept []distfile.Entry
	for _, e := range held {
		if slices.Contains(versions, e.Version) {
			gone = append(gone, e.Version)
		} else {
			kept = append(kept, e)
		}
	}
	if gone == nil {
		return nil, nil
	}
	return gone, w.change(change{offer: kept, gone: gone, where: where})
}

// listed returns the versions on offer, and an error if lines cannot be read: to write the
// distribution again would lose them.
func (w *Writer) listed() ([]distfile.Entry, error) {
	entries, skipped, err := w.store.distribution()
	if err == nil && skipped != nil {
		err = fmt.Errorf("data directory %s: %w; mend or remove the line", w.store.dir, skipped[0])
	}
	return entries, err
}

// A change is one of a directory.
type change struct {
	offer []distfile.Entry // the distribution afterwards
	draft *Draft           // moves to its place before that, or nil
	add   []release.Entry  // of versions in place that come in
	gone  []shard.Version  // move away after that
	where string           // to this directory
}

// change makes c.
func (w *Writer) change(c change) error {
	c, err := w.releases.finish(c)
	if err != nil {
		return err
	}
	moving := slices.Clone(c.gone)
	if c.draft != nil {
		w.use(c.draft.version)
		moving = append(moving, c.draft.version)
	}
	if err := w.releases.begin(); err != nil {
		return err
	}
	if err := w.writeState(moving); err != nil {
		return err
	}
	signed, err := w.releases.sign(c, w.withdrawn)
	if err == nil {
		err = w.put(c.offer, signed, c.draft)
	}
	if err != nil {
		return errors.Join(err, w.writeState(nil))
	}
	// The change is visible now. What fails from here on is in the state, and the next
	// writer does it again.
	w.moveAway(c.gone, c.where)
	_ = w.writeState(nil)
	return nil
}

// use notes that v is used.
func (w *Writer) use(v shard.Version) {
	w.last = max(w.last, v)
	w.withdrawn = slices.DeleteFunc(w.withdrawn, func(o shard.Version) bool { return o == v })
	if w.store.role != Middle || v <= w.own+mostAhead {
		w.own = max(w.own, v)
	}
}

// put moves the draft, if any, to its place, writes the release, unless that is nil, and makes
// offer the distribution. On an error all three are as before.
func (w *Writer) put(offer []distfile.Entry, signed *release.Signed, draft *Draft) (err error) {
	before, err := w.listed()
	if err != nil {
		return err
	}
	if draft != nil {
		if err := w.store.rename(draft.path(), draft.version.String()); err != nil {
			return fmt.Errorf("publish %s: %w", draft.version, err)
		}
		w.published = append(w.published, draft.version.String())
		defer func() {
			if err != nil {
				err = errors.Join(err, w.store.rename(draft.version.String(), draft.path()))
			}
		}()
		if err := disk.SyncDir(w.store.root, "."); err != nil {
			return err
		}
	}
	if signed != nil {
		defer func() {
			if err != nil {
				err = errors.Join(err, w.releases.takeBack())
			}
		}()
		if err := w.store.writeFile(release.FileName, signed.Bytes()); err != nil {
			return err
		}
	}
	if err := w.store.writeFile(distfile.FileName, distfile.Encode(offer)); err != nil {
		// The file may have got its name all the same, and only the sync have failed.
		if now, _ := w.store.Distribution(); !slices.Equal(now, before) {
			err = errors.Join(err, w.store.writeFile(distfile.FileName, distfile.Encode(before)))
		}
		return err
	}
	if signed != nil {
		w.releases.written(*signed)
	}
	return nil
}

// moveAway moves the directories of versions, as far as they exist, to the directory where,
// and replaces those of the same names there. The next writer tries again with those that
// are stuck.
func (w *Writer) moveAway(versions []shard.Version, where string) {
	for _, v := range versions {
		free, err := w.free(v.String())
		if err == nil && free {
			continue
		}
		to := path.Join(where, v.String())
		if err == nil {
			err = w.store.removeAll(to)
		}
		if err == nil {
			err = w.store.rename(v.String(), to)
		}
		if err != nil {
			w.stuck = append(w.stuck, v)
			w.store.leave(v.String(), err)
		}
	}
}

// recover reads the state, and takes away the directories and files that a crash has left.
// With a middle, which can use it, an unlisted version becomes a draft again.
func (w *Writer) recover() error {
	st, err := w.store.readState()
	if err != nil {
		return err
	}
	held, err := w.listed()
	if err != nil {
		return err
	}
	for _, name := range []string{distfile.FileName, release.FileName, stateName} {
		if err := w.store.root.Remove(tempName(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	w.last, w.own, w.withdrawn = st.Last, st.Last, st.Withdrawn
	w.releases = releases{store: w.store, seq: st.Seq}
	if held, err = w.releases.rollForward(held); err != nil {
		return err
	}
	w.last = max(w.last, w.releases.newest())
	w.own = max(w.own, w.releases.newest())
	for _, e := range held {
		w.use(e.Version)
		st.Moving = slices.DeleteFunc(st.Moving, func(v shard.Version) bool { return v == e.Version })
	}
	if len(st.Moving) == 0 {
		return nil
	}
	where := retired
	if w.store.role == Middle {
		where = drafts
	}
	w.moveAway(st.Moving, where)
	if slices.Equal(w.stuck, st.Moving) {
		return nil // as it was
	}
	return w.writeState(nil)
}

// readState returns the content of state.json, or none if there is no such file.
func (s *Store) readState() (state, error) {
	var st state
	text, err := s.readFile(stateName)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err == nil {
		st, err = parseState(text)
	}
	if err != nil {
		return state{}, fmt.Errorf("data directory %s: %s: %w; mend it, or remove it if the highest version number "+
			"that was ever used is listed", s.dir, stateName, err)
	}
	return st, nil
}

// IsWithdrawn reports whether v was declared bad, see [Writer.Withdraw].
func (s *Store) IsWithdrawn(v shard.Version) bool {
	st, err := s.readState()
	return err == nil && slices.Contains(st.Withdrawn, v)
}

// parseState reads the text of state.json. It refuses numbers that are no version's.
func parseState(text []byte) (state, error) {
	var st state
	if err := json.Unmarshal(text, &st); err != nil {
		return state{}, err
	}
	for _, v := range slices.Concat([]shard.Version{st.Last}, st.Moving, st.Withdrawn) {
		if v > shard.MaxVersion {
			return state{}, fmt.Errorf("%s is not a version", v)
		}
	}
	if slices.Contains(st.Moving, 0) {
		return state{}, errors.New("v0 is not a version")
	}
	if st.Seq > release.MaxNumber {
		return state{}, fmt.Errorf("seq is %d, want up to %d", st.Seq, uint64(release.MaxNumber))
	}
	return st, nil
}

func (w *Writer) writeState(moving []shard.Version) error {
	st := state{
		Last: w.own, Moving: append(slices.Clone(w.stuck), moving...), Withdrawn: w.withdrawn, Seq: w.releases.seq,
	}
	text, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return w.store.writeFile(stateName, append(text, '\n'))
}
