package store_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// machine is a data directory in the hands of a publisher and a server, and what
// must be true of it.
type machine struct {
	dir       string
	publisher *store.Store
	server    *store.Store

	offered map[shard.Version]bool
	last    shard.Version // the highest number ever used
	crashed bool          // since the directory was last locked
	release func() error  // gives the server's claim back; nil without a server
	readers []reader
}

// reader is a download in progress.
type reader struct {
	version shard.Version
	file    *os.File
	done    func()
}

func TestDataDirectoryKeepsItsPromisesWhateverHappens(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{dir: t.TempDir(), offered: make(map[shard.Version]bool)}
		m.publisher, m.server = m.open(r), m.open(r)
		r.Cleanup(func() {
			m.stop(r)
			require.NoError(r, errors.Join(m.publisher.Close(), m.server.Close()))
		})
		r.Repeat(map[string]func(*rapid.T){
			"":         m.check,
			"publish":  m.publish,
			"follow":   m.follow,
			"retire":   m.retire,
			"withdraw": m.withdraw,
			"crash":    m.crash,
			"reopen":   m.reopen,
			"start":    m.start,
			"stop":     m.stop,
			"read":     m.read,
			"finish":   m.finish,
			"sweep":    m.sweep,
		})
	})
}

// check holds after every step, also right after a crash.
func (m *machine) check(t *rapid.T) {
	versions := m.versions()
	requireWhole(t, m.publisher, versions...)
	for _, r := range m.readers {
		text, err := content(m.server, r.version)
		require.NoError(t, err, "%s is being read", r.version)
		require.Equal(t, textOf(r.version), text)
	}
	if m.crashed {
		return
	}
	want := []string{".shardcast"}
	for _, v := range versions {
		want = append(want, v.String())
	}
	require.ElementsMatch(t, want, m.names(t, "."))
}

// publish publishes the next version.
func (m *machine) publish(t *rapid.T) {
	m.change(t, func(w *store.Writer) {
		v, err := w.Next()
		require.NoError(t, err)
		require.Greater(t, v, m.last)
		m.put(t, w, v)
	})
}

// follow publishes a version whose number an upstream has given.
func (m *machine) follow(t *rapid.T) {
	v := rapid.Uint64Range(1, uint64(m.last)+3).Draw(t, "version")
	if m.offered[shard.Version(v)] {
		t.Skip("it is there")
	}
	m.change(t, func(w *store.Writer) { m.put(t, w, shard.Version(v)) })
}

func (m *machine) put(t *rapid.T, w *store.Writer, v shard.Version) {
	keep := rapid.IntRange(1, 4).Draw(t, "keep")
	d, manifest := draft(t, m.publisher, v, textOf(v))
	keeping(t, m.publisher, keep)
	require.NoError(t, w.Publish(d, manifest))
	after := maps.Clone(m.offered)
	after[v] = true
	gone := beyond(after, keep)
	if slices.Contains(gone, v) {
		return // it stays a draft
	}
	m.last = max(m.last, v)
	m.offered = after
	m.drop(gone...)
}

func (m *machine) retire(t *rapid.T) {
	versions := m.some(t)
	m.change(t, func(w *store.Writer) { require.NoError(t, w.Retire("a test", versions...)) })
	m.drop(versions...)
}

func (m *machine) withdraw(t *rapid.T) {
	v := m.one(t)
	m.change(t, func(w *store.Writer) { require.NoError(t, w.Reopen(v)) })
	m.drop(v)
	m.leave(v)
}

// crash begins to publish, retire or withdraw, and stops between two steps.
func (m *machine) crash(t *rapid.T) {
	m.change(t, func(*store.Writer) {}) // as every writer, it begins by undoing the last crash
	after := maps.Clone(m.offered)
	var added, withdrawn shard.Version
	var gone []shard.Version
	var do func(w *store.Writer) error
	switch rapid.SampledFrom([]string{"publish", "retire", "withdraw"}).Draw(t, "task") {
	case "publish":
		added = next(t, m.publisher)
		draft, manifest := draft(t, m.publisher, added, textOf(added))
		after[added] = true
		keep := rapid.IntRange(1, 3).Draw(t, "keep")
		gone = beyond(after, keep)
		keeping(t, m.publisher, keep)
		do = func(w *store.Writer) error { return w.Publish(draft, manifest) }
	case "retire":
		gone = m.some(t)
		do = func(w *store.Writer) error { return w.Retire("a test", gone...) }
	case "withdraw":
		withdrawn = m.one(t)
		gone = []shard.Version{withdrawn}
		do = func(w *store.Writer) error { return w.Reopen(withdrawn) }
	}
	for _, v := range gone {
		delete(after, v)
	}
	early := stopped(t, m.publisher, rapid.IntRange(1, 8).Draw(t, "step"), do)
	m.crashed = early
	if m.publisher.Holds(added) {
		m.last = max(m.last, added) // it may have been seen
	}
	if withdrawn > 0 && !m.publisher.Holds(withdrawn) {
		m.leave(withdrawn)
	}
	if now := offered(t, m.publisher); !early || !slices.Equal(now, m.versions()) {
		m.offered = after
	}
	m.reopen(t)
}

func (m *machine) reopen(t *rapid.T) {
	require.NoError(t, m.publisher.Close())
	m.publisher = m.open(t)
}

func (m *machine) start(t *rapid.T) {
	if m.release != nil {
		t.Skip("there is one")
	}
	var err error
	m.release, err = m.server.Claim(t.Context())
	require.NoError(t, err)
}

func (m *machine) stop(t *rapid.T) {
	if m.release == nil {
		return
	}
	m.leave(slices.Collect(func(yield func(shard.Version) bool) {
		for _, r := range m.readers {
			yield(r.version)
		}
	})...)
	require.NoError(t, m.release())
	m.release = nil
}

func (m *machine) read(t *rapid.T) {
	if m.release == nil {
		t.Skip("there is no server")
	}
	v := m.one(t)
	f, done, err := m.server.Shard(v, 1)
	require.NoError(t, err)
	m.readers = append(m.readers, reader{v, f, done})
}

func (m *machine) finish(t *rapid.T) {
	if len(m.readers) == 0 {
		t.Skip("no version has a reader")
	}
	m.leave(rapid.SampledFrom(m.readers).Draw(t, "reader").version)
}

func (m *machine) sweep(t *rapid.T) {
	require.NoError(t, m.server.Sweep(0))
	for _, name := range m.names(t, ".shardcast/retired") {
		require.True(t, slices.ContainsFunc(m.readers, func(r reader) bool { return r.version.String() == name }),
			"%s has no reader", name)
	}
}

// change lets f change the directory, and checks what is left of retired
// versions.
func (m *machine) change(t *rapid.T, f func(w *store.Writer)) {
	change(t, m.publisher, f)
	m.crashed = false
	if m.release == nil {
		require.Empty(t, m.names(t, ".shardcast/retired"))
	}
}

// leave ends the downloads of versions.
func (m *machine) leave(versions ...shard.Version) {
	m.readers = slices.DeleteFunc(m.readers, func(r reader) bool {
		if !slices.Contains(versions, r.version) {
			return false
		}
		r.file.Close()
		r.done()
		return true
	})
}

func (m *machine) drop(versions ...shard.Version) {
	for _, v := range versions {
		delete(m.offered, v)
	}
}

func (m *machine) open(t *rapid.T) *store.Store {
	st, err := store.Open(m.dir, store.Origin)
	require.NoError(t, err)
	return st
}

// versions returns the versions on offer, ascending, or nil.
func (m *machine) versions() []shard.Version {
	return slices.Sorted(maps.Keys(m.offered))
}

// beyond returns the oldest versions of which there are more than keep.
func beyond(offered map[shard.Version]bool, keep int) []shard.Version {
	versions := slices.Sorted(maps.Keys(offered))
	return versions[:max(0, len(versions)-keep)]
}

func (m *machine) one(t *rapid.T) shard.Version {
	if len(m.offered) == 0 {
		t.Skip("nothing is on offer")
	}
	return rapid.SampledFrom(m.versions()).Draw(t, "version")
}

func (m *machine) some(t *rapid.T) []shard.Version {
	if len(m.offered) == 0 {
		t.Skip("nothing is on offer")
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(m.versions()), 1, len(m.offered), rapid.ID).Draw(t, "versions")
}

// names returns the names in the directory name, but for distribution.txt.
func (m *machine) names(t *rapid.T, name string) (names []string) {
	entries, err := os.ReadDir(filepath.Join(m.dir, name))
	require.NoError(t, err)
	for _, e := range entries {
		if e.Name() != distfile.FileName {
			names = append(names, e.Name())
		}
	}
	return names
}
