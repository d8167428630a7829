package store_test

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// outline is of what cut makes of text.
func outline(v shard.Version, text string) shard.Outline {
	return shard.Outline{
		Version: v, ID: digest(text + " as it is cut"), Name: "file.bin",
		Date: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Size: int64(len(text)), ShardSize: 16,
	}
}

// cutting is somebody who cuts a draft and tells of it.
type cutting struct {
	w            *store.Writer
	draft        *store.Draft
	manifest     shard.Manifest
	announcement *store.Announcement
}

// announce locks the directory of st, and cuts text into a draft of v that it tells of.
func announce(t *testing.T, st *store.Store, v shard.Version, text string) *cutting {
	t.Helper()
	w, err := st.Lock(t.Context())
	require.NoError(t, err)
	d, err := w.Draft(v)
	require.NoError(t, err)
	a, err := d.Announce(outline(v, text))
	require.NoError(t, err)
	m, err := cut(t.Context(), d, text)
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.Close() })
	return &cutting{w, d, m, a}
}

// know tells of shard number.
func (c *cutting) know(number int) { c.announcement.Know(number, c.manifest.Shards[number-1]) }

// found is the draft that st finds, which there must be.
func found(t *testing.T, st *store.Store) *store.Unfinished {
	t.Helper()
	u, err := st.Unfinished()
	require.NoError(t, err)
	require.NotNil(t, u)
	t.Cleanup(func() { _ = u.Close() })
	return u
}

func requireNoneUnfinished(t *testing.T, st *store.Store) {
	t.Helper()
	u, err := st.Unfinished()
	require.NoError(t, err)
	require.Nil(t, u)
}

func requireRead(t *testing.T, u *store.Unfinished, want ...shard.Known) {
	t.Helper()
	got, err := u.Read()
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func requireNotPublished(t *testing.T, u *store.Unfinished) {
	t.Helper()
	_, err := u.Published()
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// shardOf is what Open opens.
func shardOf(u *store.Unfinished, number int) (string, error) {
	f, err := u.Open(number)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	return string(text), err
}

func TestUnfinishedIsFoundOnlyWhileItsWriterLives(t *testing.T) {
	dir := t.TempDir()
	here, there := open(t, dir, store.Origin), open(t, dir, store.Origin)
	requireNoneUnfinished(t, here)
	c := announce(t, there, 1, textOf(1))
	u := found(t, here)
	assert.Equal(t, outline(1, textOf(1)), u.Outline)
	assert.True(t, u.Growing())
	requireRead(t, u)
	c.know(2)
	requireRead(t, u, shard.Known{Shard: 2, Digest: c.manifest.Shards[1]})
	requireRead(t, u)
	c.know(1)
	c.know(3)
	requireRead(t, u, shard.Known{Shard: 1, Digest: c.manifest.Shards[0]}, shard.Known{Shard: 3, Digest: c.manifest.Shards[2]})
	requireNotPublished(t, u)
	text, err := shardOf(u, 2)
	require.NoError(t, err)
	assert.Equal(t, textOf(1)[16:32], text)
	_, err = u.Open(4)
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, c.w.Unlock())
	assert.False(t, u.Growing())
	requireNotPublished(t, u)
	requireNoneUnfinished(t, here)
}

func TestUnfinishedFollowsItsDraftToItsPlace(t *testing.T) {
	dir := t.TempDir()
	here, there := open(t, dir, store.Origin), open(t, dir, store.Origin)
	claim(t, here)
	c := announce(t, there, 1, textOf(1))
	u := found(t, here)
	c.know(1)
	require.NoError(t, c.w.Publish(c.draft, c.manifest, 1))
	requireNoneUnfinished(t, here)
	assert.True(t, u.Growing(), "the lock is held still")
	m, err := u.Published()
	require.NoError(t, err)
	assert.Equal(t, c.manifest, m)
	requireRead(t, u, shard.Known{Shard: 1, Digest: m.Shards[0]})
	require.NoError(t, c.w.Unlock())
	assert.False(t, u.Growing())
	_, err = u.Published()
	require.NoError(t, err)
	assert.Equal(t, clean(1), tree(t, dir), "nothing of the announcement is left")

	requireShards := func() {
		t.Helper()
		for i, want := range m.Shards {
			text, err := shardOf(u, i+1)
			require.NoError(t, err)
			assert.Equal(t, want, digest(text))
		}
	}
	requireShards()
	require.NoError(t, u.Close())
	requireShards()
	publish(t, there, 1)
	text, err := shardOf(u, 3)
	require.NoError(t, err, "it was retired")
	assert.Equal(t, digest(text), m.Shards[2])
}

func TestUnfinishedIsNeverAnotherDraftOfTheSameNumber(t *testing.T) {
	dir := t.TempDir()
	here, there := open(t, dir, store.Origin), open(t, dir, store.Origin)
	first := announce(t, there, 1, "a file that changes while it is being cut")
	u := found(t, here)
	require.NoError(t, first.draft.Discard())
	assert.False(t, u.Growing(), "discarded by who has cut it")
	require.NoError(t, first.w.Unlock())

	second := announce(t, there, 1, textOf(1))
	v := found(t, here)
	assert.NotEqual(t, u.Outline.ID, v.Outline.ID)
	assert.False(t, u.Growing())
	requireRead(t, u)
	_, err := u.Open(1)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, second.w.Publish(second.draft, second.manifest, 1))
	require.NoError(t, second.w.Unlock())
	requireNotPublished(t, u)
	_, err = v.Published()
	require.NoError(t, err)
	require.NoError(t, u.Close())
	_, err = u.Open(1)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestWhatAKilledWriterHasToldIsNotThatOfTheNext(t *testing.T) {
	dir := t.TempDir()
	here, there := open(t, dir, store.Origin), open(t, dir, store.Origin)
	c := announce(t, there, 1, textOf(1))
	u := found(t, here)
	require.NoError(t, c.w.Unlock()) // as a kill does
	change(t, there, func(w *store.Writer) {
		require.NoError(t, w.DiscardDrafts(func(shard.Version) bool { return false }))
		requireNoneUnfinished(t, here)
		assert.False(t, u.Growing())
	})
}

func TestDraftIsPublishedOnlyWhenItIsListed(t *testing.T) {
	dir := t.TempDir()
	here, there := open(t, dir, store.Origin), open(t, dir, store.Origin)
	c := announce(t, there, 1, textOf(1))
	u := found(t, here)
	// What Publish does, up to the last step.
	require.NoError(t, c.draft.SetManifest(c.manifest))
	require.NoError(t, os.Remove(filepath.Join(dir, ".shardcast/drafts/v1/unfinished.jsonl")))
	assert.True(t, u.Growing())
	requireNotPublished(t, u)
	disk(dir).move(t, 1, "drafts", "")
	assert.True(t, u.Growing())
	requireNotPublished(t, u)
	write(t, dir, "distribution.txt", fmt.Sprintf("v1: %s\n", digest("another file")))
	requireNotPublished(t, u)
	disk(dir).offer(t, 1)
	_, err := u.Published()
	require.NoError(t, err)
	require.NoError(t, c.w.Unlock())
}

func TestLinesThatSayNothingDoNoHarm(t *testing.T) {
	line := func(o shard.Outline) string {
		text, err := o.Encode()
		require.NoError(t, err)
		return string(text)
	}
	known := func(number int) string {
		text, err := shard.Known{Shard: number, Digest: shard.Digest{byte(number)}}.Encode()
		require.NoError(t, err)
		return string(text)
	}
	first := line(outline(1, textOf(1)))
	for name, tc := range map[string]struct {
		text string
		want []int // the shards that are known, or nil if it is not found
	}{
		"empty":                   {"", nil},
		"half a first line":       {strings.TrimSuffix(first, "\n"), nil},
		"a first line of none":    {"{}\n" + known(1), nil},
		"of another version":      {line(outline(2, textOf(1))) + known(1), nil},
		"a first line too long":   {strings.Repeat(" ", 20_000) + first + known(1), nil},
		"no line":                 {first, []int{}},
		"half a line":             {first + known(1) + known(2)[:40], []int{1}},
		"lines between":           {first + "\n\x00\nnull\n{}\n" + known(3) + "[]\n" + known(1), []int{3, 1}},
		"shards that are not":     {first + known(4) + known(2), []int{2}},
		"the whole file's digest": {first + known(0) + known(2), []int{2}},
		"half a line, gone on":    {first + known(1)[:40] + known(2) + known(3), []int{3}},
		"a line without an end":   {first + known(1) + strings.Repeat("x", 1<<20), []int{1}},
		"a line too long":         {first + known(1) + strings.Repeat("x", 20_000) + "\n" + known(2), []int{1}},
		"many lines":              {first + strings.Repeat(known(1), 2000), slices.Repeat([]int{1}, 2000)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Origin)
			write(t, dir, ".shardcast/drafts/v1/unfinished.jsonl", tc.text)
			requireNoneUnfinished(t, st) // nobody cuts
			change(t, st, func(*store.Writer) {
				if tc.want == nil {
					requireNoneUnfinished(t, st)
					return
				}
				u := found(t, st)
				got := []int{}
				for range 3 {
					known, err := u.Read()
					require.NoError(t, err)
					for _, k := range known {
						assert.Equal(t, shard.Digest{byte(k.Shard)}, k.Digest)
						got = append(got, k.Shard)
					}
				}
				assert.Equal(t, tc.want, got)
			})
		})
	}
}

func TestALineIsReadOnceItHasItsEnd(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	c := announce(t, st, 1, textOf(1))
	u := found(t, st)
	f, err := os.OpenFile(filepath.Join(dir, ".shardcast/drafts/v1/unfinished.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	want := shard.Known{Shard: 1, Digest: shard.Digest{1}}
	line, err := want.Encode()
	require.NoError(t, err)
	_, err = f.Write(line[:30])
	require.NoError(t, err)
	requireRead(t, u)
	_, err = f.Write(line[30:])
	require.NoError(t, err)
	requireRead(t, u, want)
	require.NoError(t, c.w.Unlock())
}

func TestMuchThatIsToldIsReadInParts(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	c := announce(t, st, 1, textOf(1))
	for range 30_000 {
		c.know(1)
	}
	u := found(t, st)
	total, parts := 0, 0
	for {
		known, err := u.Read()
		require.NoError(t, err)
		if known == nil {
			break
		}
		total += len(known)
		parts++
	}
	assert.Equal(t, 30_000, total)
	assert.Greater(t, parts, 1)
	require.NoError(t, c.w.Unlock())
}

func TestWhatBearsTheNameAndIsNoFileTellsNothing(t *testing.T) {
	for name, put := range map[string]func(t *testing.T, dir, file string){
		"a directory": func(t *testing.T, _, file string) { t.Helper(); require.NoError(t, os.Mkdir(file, 0o755)) },
		"a link": func(t *testing.T, dir, file string) {
			t.Helper()
			line, err := outline(1, textOf(1)).Encode()
			require.NoError(t, err)
			write(t, dir, ".shardcast/drafts/v1/other", string(line))
			require.NoError(t, os.Symlink("other", file))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Origin)
			_, err := st.Draft(1)
			require.NoError(t, err)
			put(t, dir, filepath.Join(dir, ".shardcast/drafts/v1/unfinished.jsonl"))
			change(t, st, func(*store.Writer) { requireNoneUnfinished(t, st) })
		})
	}
}

func TestAnnouncementSaysWhatItCouldNotTell(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	d, err := st.Draft(1)
	require.NoError(t, err)
	a, err := d.Announce(outline(1, textOf(1)))
	require.NoError(t, err)
	_, err = d.Announce(outline(1, textOf(1)))
	require.ErrorIs(t, err, fs.ErrExist, "of each cut there is one")
	require.NoError(t, a.Close())
	a.Know(1, shard.Digest{1})
	require.ErrorIs(t, a.Close(), os.ErrClosed)

	d, err = st.Draft(2)
	require.NoError(t, err)
	_, err = d.Announce(shard.Outline{})
	require.ErrorIs(t, err, shard.ErrOutline)
}
