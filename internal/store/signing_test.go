package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
	"github.com/shardcast/shardcast/internal/store"
)

const feed = "weights.example.org/llama"

// newKey returns a key.
func newKey(t *testing.T) release.PrivateKey {
	t.Helper()
	key, err := release.GenerateKey()
	require.NoError(t, err)
	return key
}

// openToSign returns a Store of its own that signs.
func openToSign(t *testing.T, dir string, keyed signing.Options) *store.Store {
	t.Helper()
	st := open(t, dir, store.Origin)
	st.SignBy(keyed)
	return st
}

// released returns the release of st, which key has signed.
func released(t *testing.T, st *store.Store, key release.PrivateKey) release.Release {
	t.Helper()
	signed, err := st.Released()
	require.NoError(t, err)
	require.NoError(t, signed.Verify(key.Public()))
	return signed.Release
}

// lines returns the versions of a release, those that are withdrawn with a minus.
func lines(r release.Release) []string {
	found := []string{}
	for _, e := range r.Entries {
		if e.Withdrawn {
			found = append(found, "-"+e.Version.String())
			continue
		}
		found = append(found, e.Version.String())
	}
	return found
}

// preparedToSign is a data directory with two signed versions and a draft of the third.
func preparedToSign(t *testing.T, key release.PrivateKey) (dir string) {
	t.Helper()
	dir = t.TempDir()
	st := openToSign(t, dir, signing.Options{Key: key, Feed: feed})
	publishAs(t, st, 1, 5, textOf(1))
	publishAs(t, st, 2, 5, textOf(2))
	d, m := draft(t, st, 3, textOf(3))
	require.NoError(t, d.SetManifest(m))
	return dir
}

func TestACrashIsRolledForwardToTheReleaseWithoutTheKey(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	template := preparedToSign(t, key)
	put := (*store.Writer).Publish
	for name, task := range map[string]struct {
		keep  int
		do    func(w *store.Writer, d *store.Draft, m shard.Manifest) error
		after []string
	}{
		"publish":                 {3, put, []string{"v1", "v2", "v3"}},
		"publish and retire":      {2, put, []string{"v2", "v3"}},
		"publish and retire both": {1, put, []string{"v3"}},
		"retire": {5, func(w *store.Writer, _ *store.Draft, _ shard.Manifest) error {
			return w.Retire("a test", 1)
		}, []string{"v2"}},
		"withdraw": {5, func(w *store.Writer, _ *store.Draft, _ shard.Manifest) error {
			return w.Withdraw(2)
		}, []string{"v1", "-v2"}},
		"sign": {5, func(w *store.Writer, _ *store.Draft, _ shard.Manifest) error {
			_, err := w.Sign(false)
			return err
		}, []string{"v1", "v2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var last uint64
			for n, early := 1, true; early; n++ {
				dir := filepath.Join(t.TempDir(), "data")
				require.NoError(t, os.CopyFS(dir, os.DirFS(template)))
				keyed := signing.Options{Key: key, StateDir: filepath.Join(t.TempDir(), "state")}
				st := openToSign(t, dir, keyed)
				before, offeredBefore := released(t, st, key), offered(t, st)
				keeping(t, st, task.keep)
				d, err := st.Draft(3)
				require.NoError(t, err)
				m, err := d.Manifest()
				require.NoError(t, err)
				early = stopped(t, st, n, func(w *store.Writer) error { return task.do(w, d, m) })

				// All that the release lists is there at any moment, and its number was on the disk.
				now := released(t, st, key)
				if now.Seq == before.Seq {
					require.Equal(t, before, now)
					require.Equal(t, offeredBefore, offered(t, st), "the release comes before the distribution")
				} else {
					require.Equal(t, task.after, lines(now))
				}
				for _, e := range now.Entries {
					if !e.Withdrawn {
						text, err := content(st, e.Version)
						require.NoError(t, err)
						require.Equal(t, textOf(e.Version), text)
					}
				}
				require.GreaterOrEqual(t, seqOf(t, dir), now.Seq)
				require.NoError(t, st.Close())

				// A writer without the key leaves what the release lists, and nothing else.
				keyless := open(t, dir, store.Origin)
				recoverCrash(t, keyless)
				var want []shard.Version
				for _, e := range now.Entries {
					if !e.Withdrawn {
						want = append(want, e.Version)
					}
				}
				requireWhole(t, keyless, want...)
				require.NoError(t, keyless.DiscardDrafts(func(shard.Version) bool { return false }))
				all := append(clean(want...), release.FileName)
				slices.Sort(all)
				require.Equal(t, all, tree(t, dir))
				require.NoError(t, keyless.Close())

				// One with the key goes on with a higher number.
				again := openToSign(t, dir, keyed)
				v := publish(t, again, 9)
				require.Greater(t, v, want[len(want)-1])
				after := released(t, again, key)
				require.Greater(t, after.Seq, now.Seq)
				// It has finished what was signed, though that was never published.
				all = slices.DeleteFunc(lines(after), func(line string) bool { return line == v.String() })
				if !slices.Equal(all, lines(now)) {
					require.Subset(t, task.after, all)
				}
				last = now.Seq
				require.NoError(t, again.Close())
			}
			require.NotZero(t, last)
		})
	}
}

// seqOf returns the number of the last release that the data directory knows of.
func seqOf(t *testing.T, dir string) uint64 {
	t.Helper()
	seq, err := store.Seq([]byte(read(t, dir, ".shardcast/state.json")))
	require.NoError(t, err)
	return seq
}

func TestOnlyTheKeyChangesASignedDirectory(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	dir := preparedToSign(t, key)
	keyless := open(t, dir, store.Origin)
	d, err := keyless.Draft(3)
	require.NoError(t, err)
	m, err := d.Manifest()
	require.NoError(t, err)
	before := read(t, dir, release.FileName)
	for name, do := range map[string]func(w *store.Writer) error{
		"publish":   func(w *store.Writer) error { return w.Publish(d, m) },
		"admit":     func(w *store.Writer) error { return w.Admit(nil) },
		"retire":    func(w *store.Writer) error { return w.Retire("a test", 1) },
		"reopen":    func(w *store.Writer) error { return w.Reopen(1) },
		"withdraw":  func(w *store.Writer) error { return w.Withdraw(2) },
		"sign":      func(w *store.Writer) error { _, err := w.Sign(false); return err },
		"republish": func(w *store.Writer) error { _, err := w.Republish(1); return err },
	} {
		t.Run(name, func(t *testing.T) {
			change(t, keyless, func(w *store.Writer) { require.ErrorIs(t, do(w), signing.ErrSigned) })
			requireWhole(t, keyless, 1, 2)
			assert.Equal(t, before, read(t, dir, release.FileName))
		})
	}
	// A server of the directory without the key leaves it to the next publication to retire.
	keeping(t, keyless, 1)
	change(t, keyless, func(w *store.Writer) { require.NoError(t, w.Trim()) })
	requireWhole(t, keyless, 1, 2)
	keyed := openToSign(t, dir, signing.Options{Key: key})
	change(t, keyed, func(w *store.Writer) { require.NoError(t, w.Publish(d, m)) })
	requireWhole(t, keyed, 3)
	assert.Equal(t, []string{"v3"}, lines(released(t, keyed, key)))

	// Without its release it stays a signed one.
	require.NoError(t, os.Remove(filepath.Join(dir, release.FileName)))
	change(t, keyless, func(w *store.Writer) { require.ErrorIs(t, w.Admit(nil), signing.ErrSigned) })
	change(t, keyed, func(w *store.Writer) { require.ErrorIs(t, w.Admit(nil), signing.ErrUnsigned) })
}

func TestTheReleaseDecides(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for name, tc := range map[string]struct {
		spoil func(dir string) error
		want  []shard.Version
	}{
		"an unsigned line": {func(dir string) error {
			write(t, dir, "v7/shard_001.bin", "unsigned")
			write(t, dir, "distribution.txt", distribution(1, 2, 7))
			return nil
		}, []shard.Version{1, 2}},
		"a line with another digest": {func(dir string) error {
			write(t, dir, "distribution.txt", distribution(1)+"v2: "+digest("other").String()+"\n")
			return nil
		}, []shard.Version{1, 2}},
		"no distribution": {func(dir string) error {
			return os.Remove(filepath.Join(dir, "distribution.txt"))
		}, []shard.Version{1, 2}},
		"no directory": {func(dir string) error {
			return os.RemoveAll(filepath.Join(dir, "v1"))
		}, []shard.Version{2}},
		"no shard and no line": {func(dir string) error {
			write(t, dir, "distribution.txt", distribution(2))
			return os.Remove(filepath.Join(dir, "v1", "shard_002.bin"))
		}, []shard.Version{2}},
		"a shard that is short and no line": {func(dir string) error {
			write(t, dir, "distribution.txt", distribution(2))
			return os.Truncate(filepath.Join(dir, "v1", "shard_002.bin"), 3)
		}, []shard.Version{2}},
		"another manifest and no line": {func(dir string) error {
			write(t, dir, "distribution.txt", distribution(2))
			write(t, dir, "v1/manifest.json", " "+read(t, dir, "v1/manifest.json"))
			return nil
		}, []shard.Version{2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := preparedToSign(t, key)
			require.NoError(t, tc.spoil(dir))
			keyless := open(t, dir, store.Origin)
			recoverCrash(t, keyless)
			requireWhole(t, keyless, tc.want...)
			if name == "an unsigned line" { // which may come in by its signature
				require.FileExists(t, filepath.Join(dir, "v7", "shard_001.bin"))
			}
			// What is gone leaves the release with the next signature.
			keyed := openToSign(t, dir, signing.Options{Key: key})
			change(t, keyed, func(w *store.Writer) {
				signed, err := w.Sign(false)
				require.NoError(t, err)
				var want []string
				for _, v := range tc.want {
					want = append(want, v.String())
				}
				assert.Equal(t, want, lines(signed.Release))
			})
		})
	}
}

func TestAReleaseThatIsSpoiltBlocksEveryWriter(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	dir := preparedToSign(t, key)
	text := read(t, dir, release.FileName)
	write(t, dir, release.FileName, text[:100])
	_, err := open(t, dir, store.Origin).Lock(t.Context())
	require.ErrorIs(t, err, release.ErrForm)
	require.ErrorContains(t, err, "sign --adopt")

	// A changed text has the form of a release, and not the signature.
	write(t, dir, release.FileName, strings.Replace(text, digest(textOf(2)).String(), digest("").String(), 1))
	keyed := openToSign(t, dir, signing.Options{Key: key})
	change(t, keyed, func(w *store.Writer) { require.ErrorIs(t, w.Admit(nil), signing.ErrOtherKey) })
}

func TestWithdrawnLinesStayWhileALowerVersionIsListed(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	st := openToSign(t, t.TempDir(), signing.Options{Key: key, Feed: feed})
	for range 3 {
		publish(t, st, 9)
	}
	step := func(want []string, do func(w *store.Writer) error) {
		t.Helper()
		change(t, st, func(w *store.Writer) { require.NoError(t, do(w)) })
		assert.Equal(t, want, lines(released(t, st, key)))
	}
	step([]string{"v1", "-v2", "v3"}, func(w *store.Writer) error { return w.Withdraw(2) })
	step([]string{"v1", "-v2", "-v3"}, func(w *store.Writer) error { return w.Withdraw(3) })
	require.Equal(t, shard.Version(4), publish(t, st, 9))
	assert.Equal(t, []string{"v1", "-v2", "-v3", "v4"}, lines(released(t, st, key)))
	step([]string{"v4"}, func(w *store.Writer) error { return w.Retire("a test", 1) })
	step([]string{}, func(w *store.Writer) error { return w.Withdraw(4) })
	require.Equal(t, shard.Version(5), publish(t, st, 9), "no number is used twice")
	assert.Equal(t, []string{"v5"}, lines(released(t, st, key)))
}

func TestAWithdrawnVersionIsNotSignedAgain(t *testing.T) {
	t.Parallel()
	key, dir, aside := newKey(t), t.TempDir(), filepath.Join(t.TempDir(), "v2")
	st := openToSign(t, dir, signing.Options{Key: key, Feed: feed})
	publish(t, st, 9)
	publish(t, st, 9)
	require.NoError(t, os.CopyFS(aside, os.DirFS(filepath.Join(dir, "v2"))))
	change(t, st, func(w *store.Writer) { require.NoError(t, w.Withdraw(2)) })
	require.NoError(t, os.CopyFS(filepath.Join(dir, "v2"), os.DirFS(aside)))
	line, err := st.Describe(2)
	require.NoError(t, err)
	change(t, st, func(w *store.Writer) {
		_, err := w.Sign(false, line)
		require.ErrorContains(t, err, "v2 was withdrawn")
	})
	assert.Equal(t, []string{"v1", "-v2"}, lines(released(t, st, key)))
}

func TestAPublicationThatFailsIsTakenBack(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for name, signedBefore := range map[string]bool{"the first": false, "a later one": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			st := openToSign(t, dir, signing.Options{Key: key, Feed: feed})
			if signedBefore {
				publish(t, st, 9)
			}
			before, _ := os.ReadFile(filepath.Join(dir, release.FileName))
			block := filepath.Join(dir, ".shardcast", "distribution.txt.tmp")
			w, err := st.Lock(t.Context())
			require.NoError(t, err)
			v, err := w.Next()
			require.NoError(t, err)
			d, m := draft(t, st, v, textOf(v))
			st.OnStep(func() { // no distribution can be written once the release is
				if now, _ := os.ReadFile(filepath.Join(dir, release.FileName)); string(now) != string(before) {
					require.NoError(t, os.MkdirAll(filepath.Join(block, "full"), 0o700))
				}
			})
			require.Error(t, w.Publish(d, m))
			st.OnStep(func() {})
			now, _ := os.ReadFile(filepath.Join(dir, release.FileName))
			assert.Equal(t, string(before), string(now))
			assert.NoDirExists(t, filepath.Join(dir, v.String()))
			require.NoError(t, os.RemoveAll(block))
			require.NoError(t, w.Publish(d, m), "the draft is still there")
			require.NoError(t, w.Unlock())
			assert.Equal(t, v.String(), lines(released(t, st, key))[len(offered(t, st))-1])
		})
	}
}

func TestTheFeedBelongsToTheDirectory(t *testing.T) {
	t.Parallel()
	key, dir := newKey(t), t.TempDir()
	nameless := openToSign(t, dir, signing.Options{Key: key})
	change(t, nameless, func(w *store.Writer) { require.ErrorIs(t, w.Admit(nil), signing.ErrFeed) })
	publish(t, openToSign(t, dir, signing.Options{Key: key, Feed: feed}), 9)
	publish(t, nameless, 9)
	assert.Equal(t, feed, released(t, nameless, key).Feed)
	settings, err := nameless.Settings()
	require.NoError(t, err)
	assert.Equal(t, feed, settings.Feed)
	assert.Equal(t, uint64(1), settings.Epoch)
	other := openToSign(t, dir, signing.Options{Key: key, Feed: "other"})
	change(t, other, func(w *store.Writer) { require.ErrorIs(t, w.Admit(nil), signing.ErrFeed) })
	require.ErrorIs(t, signing.Options{Feed: "two words"}.Check(), signing.ErrFeed)
}

func TestAnotherKeyTakesOverOnlyFromTheOneThatItNames(t *testing.T) {
	t.Parallel()
	first, second, dir := newKey(t), newKey(t), t.TempDir()
	publish(t, openToSign(t, dir, signing.Options{Key: first, Feed: feed}), 9)
	refused := openToSign(t, dir, signing.Options{Key: second, Previous: []release.PublicKey{second.Public()}})
	change(t, refused, func(w *store.Writer) {
		_, err := w.Sign(true)
		require.ErrorIs(t, err, signing.ErrOtherKey)
	})
	st := openToSign(t, dir, signing.Options{Key: second, Previous: []release.PublicKey{first.Public()}})
	before := released(t, st, first)
	publish(t, st, 9)
	after := released(t, st, second)
	assert.Equal(t, []string{"v1", "v2"}, lines(after))
	assert.Positive(t, after.Compare(before))
	assert.Equal(t, before.Epoch, after.Epoch)
}

func TestAnUnsignedDirectoryIsSignedAsAWhole(t *testing.T) {
	t.Parallel()
	key, dir := newKey(t), t.TempDir()
	unsigned := open(t, dir, store.Origin)
	publish(t, unsigned, 9)
	publish(t, unsigned, 9)
	st := openToSign(t, dir, signing.Options{Key: key, Feed: feed})
	describe := func(v shard.Version) release.Entry {
		line, err := st.Describe(v)
		require.NoError(t, err)
		return line
	}
	change(t, st, func(w *store.Writer) { require.ErrorIs(t, w.Admit(nil), signing.ErrUnsigned) })
	change(t, st, func(w *store.Writer) {
		_, err := w.Sign(false, describe(2))
		require.ErrorIs(t, err, signing.ErrUnsigned)
		require.ErrorContains(t, err, "v1")
	})
	requireWhole(t, st, 1, 2)
	change(t, st, func(w *store.Writer) {
		_, err := w.Sign(false, describe(1), describe(2))
		require.NoError(t, err)
	})
	requireWhole(t, st, 1, 2)
	publish(t, st, 9)
	assert.Equal(t, []string{"v1", "v2", "v3"}, lines(released(t, st, key)))
}

func TestACopyIsRecognised(t *testing.T) {
	t.Parallel()
	key, state := newKey(t), filepath.Join(t.TempDir(), "state", "shardcast")
	original, copied := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "data")
	keyed := signing.Options{Key: key, Feed: feed, StateDir: state}
	st := openToSign(t, original, keyed)
	publish(t, st, 9)
	require.NoError(t, os.CopyFS(copied, os.DirFS(original)))
	publish(t, st, 9)

	// The copy would publish a second v2.
	second := openToSign(t, copied, keyed)
	change(t, second, func(w *store.Writer) {
		err := w.Admit(nil)
		require.ErrorIs(t, err, signing.ErrCopy)
		require.ErrorContains(t, err, "--new-epoch")
	})
	// It begins anew by a higher epoch, and from then on the original is the one that lags behind.
	change(t, second, func(w *store.Writer) {
		signed, err := w.Sign(true)
		require.NoError(t, err)
		assert.Equal(t, []string{"v1"}, lines(signed.Release))
		assert.Positive(t, signed.Release.Compare(released(t, st, key)))
		assert.Equal(t, uint64(2), signed.Release.Epoch)
	})
	publish(t, second, 9)
	assert.Equal(t, uint64(2), released(t, second, key).Epoch)
	change(t, st, func(w *store.Writer) { require.ErrorIs(t, w.Admit(nil), signing.ErrCopy) })

	// Another feed, another key, and a user without a memory are not affected.
	other := keyed
	other.Feed = "other"
	publish(t, openToSign(t, t.TempDir(), other), 9)
	other = keyed
	other.Key = newKey(t)
	publish(t, openToSign(t, t.TempDir(), other), 9)
	fresh := openToSign(t, t.TempDir(), keyed)
	change(t, fresh, func(w *store.Writer) { require.ErrorIs(t, w.Admit(nil), signing.ErrCopy) })
	change(t, fresh, func(w *store.Writer) {
		signed, err := w.Sign(true)
		require.NoError(t, err)
		assert.Equal(t, uint64(3), signed.Release.Epoch, "higher than all that the key has signed")
		assert.Empty(t, signed.Release.Entries)
	})
	other = keyed
	other.StateDir = ""
	publish(t, openToSign(t, t.TempDir(), other), 9)
}

func TestAnOlderReleaseThatIsPutBackBringsNoVersionBack(t *testing.T) {
	t.Parallel()
	key, dir, before := newKey(t), t.TempDir(), filepath.Join(t.TempDir(), "before")
	st := openToSign(t, dir, signing.Options{Key: key, Feed: feed, StateDir: filepath.Join(t.TempDir(), "state")})
	for range 3 {
		publish(t, st, 9)
	}
	require.NoError(t, os.CopyFS(before, os.DirFS(dir)))
	change(t, st, func(w *store.Writer) {
		require.NoError(t, w.Withdraw(2))
		require.NoError(t, w.Retire("a test", 3))
	})
	require.Equal(t, shard.Version(4), publish(t, st, 9))

	// The process that serves has the directory as it was, but for its counter.
	for _, name := range []string{"v2", "v3"} {
		require.NoError(t, os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(before, name))))
	}
	for _, name := range []string{release.FileName, "distribution.txt"} {
		write(t, dir, name, read(t, before, name))
	}
	require.Equal(t, []string{"v1", "v2", "v3"}, lines(released(t, st, key)))
	change(t, st, func(w *store.Writer) {
		signed, err := w.Sign(false)
		require.NoError(t, err)
		assert.Equal(t, []string{"v1", "-v2", "v4"}, lines(signed.Release))
	})
	requireWhole(t, st, 1, 4)
	assert.NoDirExists(t, filepath.Join(dir, "v2"))
	require.Equal(t, shard.Version(5), publish(t, st, 9))
}

func TestANumberIsNeverGivenTwice(t *testing.T) {
	t.Parallel()
	key, dir := newKey(t), t.TempDir()
	st := openToSign(t, dir, signing.Options{Key: key, Feed: feed})
	publish(t, st, 9)
	// The clock was a century ahead.
	const ahead = 4_900_000_000_000
	write(t, dir, ".shardcast/state.json", fmt.Sprintf(`{"last":1,"seq":%d}`, uint64(ahead)))
	publish(t, st, 9)
	assert.Equal(t, uint64(ahead+1), released(t, st, key).Seq)
	publish(t, st, 9)
	assert.Equal(t, uint64(ahead+2), released(t, st, key).Seq)
}

func TestAReleaseIsValidForAsLongAsTheDirectorySays(t *testing.T) {
	t.Parallel()
	key, dir := newKey(t), t.TempDir()
	valid := func(expires time.Duration) time.Duration {
		st := openToSign(t, dir, signing.Options{Key: key, Feed: feed, Expires: expires})
		publish(t, st, 9)
		r := released(t, st, key)
		if r.Expires.IsZero() {
			return signing.NeverExpires
		}
		return r.Expires.Sub(r.Issued)
	}
	assert.Equal(t, 7*24*time.Hour, valid(0))
	assert.Equal(t, time.Minute, valid(time.Minute))
	assert.Equal(t, time.Minute, valid(0), "it belongs to the directory")
	assert.Equal(t, signing.NeverExpires, valid(signing.NeverExpires))
	assert.Equal(t, signing.NeverExpires, valid(0))
	require.Error(t, signing.Options{Expires: -time.Minute}.Check())
	require.Error(t, signing.Options{Expires: time.Millisecond}.Check())
	require.Error(t, signing.Options{Expires: 200 * 365 * 24 * time.Hour}.Check())
}
