package trust_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/trust"
)

func TestOnlyAPinnedKeysReleaseOfTheFeedCounts(t *testing.T) {
	key, foreign := newKey(t), newKey(t)
	good := sign(t, key, list(1, 5))
	other := list(1, 6)
	other.Feed = "weights.example.org/other"
	for name, tc := range map[string]struct {
		file []byte
		says string
	}{
		"another key":          {sign(t, foreign, list(1, 6)), "signed by the key " + foreign.Public().ID()},
		"another feed":         {sign(t, key, other), "of the feed weights.example.org/other"},
		"no release":           {[]byte("<html>hello</html>"), "wrong form: line 1"},
		"unsigned":             {bytes.SplitAfter(good, []byte("withdrawn\n"))[0][:200], "wrong form"},
		"a byte of the text":   {bytes.Replace(good, []byte("size=1"), []byte("size=2"), 1), "signature is wrong"},
		"a byte of a comment":  {bytes.Replace(good, []byte("cast\nR"), []byte("casT\nR"), 1), "wrong form: line 12"},
		"a trusted comment":    {bytes.Replace(good, []byte("epoch=1"), []byte("epoch=2"), 1), "wrong form: line 14"},
		"the first signature":  {flip(good, "signature from shardcast\n", 40), "signature is wrong"},
		"the second signature": {flip(good, " seq=5\n", 20), "signature is wrong"},
		"something behind":     {append(bytes.Clone(good), '\n'), "stands after the signature"},
		"too much":             {make([]byte, release.MaxSize+1), "more than 4194304 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, key)
			r.refuses(t, tc.file, tc.says)
			require.ErrorIs(t, r.Check(), trust.ErrNotTrusted)
			require.ErrorContains(t, r.Check(), "http://bad: ", "the server is named")
			r.accepts(t, good)
			r.refuses(t, tc.file, tc.says)
			require.NoError(t, r.Check())
			assert.Equal(t, uint64(2), r.Counts().Refused)
			require.Len(t, files(t, r.dir), 1)
			r.again(t).knows(t, good)
		})
	}
}

// flip changes the character so many behind a text.
func flip(file []byte, behind string, at int) []byte {
	changed := bytes.Clone(file)
	i := bytes.Index(file, []byte(behind)) + len(behind) + at
	if changed[i] = 'B'; file[i] == 'B' {
		changed[i] = 'C'
	}
	return changed
}

func TestAnOlderReleaseIsIgnoredAndCounted(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	r.accepts(t, sign(t, key, list(2, 5)))
	for _, older := range []release.Release{list(2, 4), list(1, 9), list(1, 5)} {
		r.ignores(t, sign(t, key, older))
	}
	assert.Equal(t, trust.Counts{Accepted: 1, Older: 3}, r.Counts())
	servers := r.Servers()
	require.Len(t, servers, 1)
	assert.Equal(t, trust.StateOlder, servers[0].State)
	assert.Contains(t, r.log.String(), `msg="release ignored: an older one than is known" upstream=http://a epoch=1 `)
}

// TestTheOnlyServerReplaysAnOlderReleaseAfterARestart holds that the newest is known with its text.
func TestTheOnlyServerReplaysAnOlderReleaseAfterARestart(t *testing.T) {
	key := newKey(t)
	older, newest := sign(t, key, list(1, 4)), sign(t, key, list(1, 5))
	r := open(t, key)
	r.accepts(t, older)
	r.accepts(t, newest)
	r = r.again(t)
	r.knows(t, newest)
	r.ignores(t, older)
	require.NoError(t, r.Check())
}

func TestOneOfTwoServersReplaysAnOlderRelease(t *testing.T) {
	key := newKey(t)
	older, newest := sign(t, key, list(1, 4)), sign(t, key, list(1, 5))
	r := open(t, key)
	for range 3 {
		_, err := r.Offer(t.Context(), "http://replay", older)
		require.NoError(t, err)
		_, err = r.Offer(t.Context(), "http://b", newest)
		require.NoError(t, err)
	}
	r.knows(t, newest)
	servers := r.Servers()
	require.Len(t, servers, 2)
	assert.Equal(t, "http://b newest 5", fmt.Sprint(servers[0].Name, " ", servers[0].State, " ", servers[0].Seq))
	assert.Equal(t, "http://replay older 4", fmt.Sprint(servers[1].Name, " ", servers[1].State, " ", servers[1].Seq))
	assert.Equal(t, uint64(2), r.Counts().Older, "it was the newest at first")
}

// TestAServerLagsOnceANewerReleaseIsKnown holds the state of a server that says nothing new.
func TestAServerLagsOnceANewerReleaseIsKnown(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	r.accepts(t, sign(t, key, list(1, 4)))
	_, err := r.Offer(t.Context(), "http://b", sign(t, key, list(1, 5)))
	require.NoError(t, err)
	assert.Equal(t, trust.StateOlder, r.Servers()[0].State)
}

func TestAnotherTextOfTheSameNumberIsRefused(t *testing.T) {
	key := newKey(t)
	first, other := list(1, 5), list(1, 5)
	other.Entries = other.Entries[1:]
	r := open(t, key)
	r.accepts(t, sign(t, key, first))
	r.refuses(t, sign(t, key, other), "two directories publish one feed")
	r.refuses(t, sign(t, key, other), "two directories publish one feed")
	again := r.again(t)
	again.refuses(t, sign(t, key, other), "two directories publish one feed")
	again.ignores(t, sign(t, key, first))
}

func TestARaisedEpochStartsOverOnlyWhenItIsSigned(t *testing.T) {
	key, foreign := newKey(t), newKey(t)
	r := open(t, key)
	r.accepts(t, sign(t, key, list(1, 50)))
	r.refuses(t, sign(t, foreign, list(2, 1)), "signed by the key")
	raised := sign(t, key, list(2, 1))
	r.refuses(t, bytes.ReplaceAll(raised, []byte("epoch: 2"), []byte("epoch: 3")), "wrong form")
	r.refuses(t, raised[:bytes.Index(raised, []byte("untrusted"))], "it ends in the middle")
	r.accepts(t, raised)
	r.ignores(t, sign(t, key, list(1, 51)))
	r.again(t).knows(t, raised)
}

// TestAHigherNumberMayListLess holds that going back is the publisher's to decide.
func TestAHigherNumberMayListLess(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	r.accepts(t, sign(t, key, list(1, 5)))
	back := list(1, 6)
	back.Entries = []release.Entry{{Version: 1, Size: 1}, {Version: 2, Withdrawn: true}}
	r.accepts(t, sign(t, key, back))
}

func TestKeysRotate(t *testing.T) {
	old, next := newKey(t), newKey(t)
	r := open(t, old, next)
	r.accepts(t, sign(t, old, list(1, 5)))
	r.ignores(t, sign(t, next, list(1, 4)))
	other := list(1, 5)
	other.Entries = nil
	r.refuses(t, sign(t, next, other), "has signed it as number 5 of epoch 1")
	r.ignores(t, sign(t, next, list(1, 5)))
	r.accepts(t, sign(t, next, list(1, 6)))
	r.ignores(t, sign(t, old, list(1, 5)))
	r.again(t).knows(t, sign(t, next, list(1, 6)))
	openIn(t, r.dir, next).knows(t, sign(t, next, list(1, 6)))
}

// TestAKeyThatWasTakenAwayCountsNoMore holds that the future that its holder has signed is gone with it.
func TestAKeyThatWasTakenAwayCountsNoMore(t *testing.T) {
	stolen, key := newKey(t), newKey(t)
	r := open(t, stolen, key)
	mine := sign(t, key, list(1, 5))
	r.accepts(t, mine)
	far := list(release.MaxNumber, 7)
	far.Issued = start.AddDate(100, 0, 0)
	far.Expires = time.Time{}
	r.accepts(t, sign(t, stolen, far))
	assert.Equal(t, far.Issued, r.Time())
	r.ignores(t, sign(t, key, list(1, 6)))

	r = openIn(t, r.dir, key)
	r.knows(t, mine)
	assert.Equal(t, *r.now, r.Time(), "nor does its time")
	require.NoError(t, r.Check())
	r.accepts(t, sign(t, key, list(1, 6)))
	r.refuses(t, sign(t, stolen, far), "signed by the key "+stolen.Public().ID())
}

// TestAnAddedKeyIsBoundByTheOrderOfTheOther holds that the order is one over all keys.
func TestAnAddedKeyIsBoundByTheOrderOfTheOther(t *testing.T) {
	first, added := newKey(t), newKey(t)
	r := open(t, first)
	newest := sign(t, first, list(3, 5))
	r.accepts(t, newest)
	r = openIn(t, r.dir, first, added)
	r.ignores(t, sign(t, added, list(2, 9)))
	r.accepts(t, sign(t, added, list(3, 6)))
	openIn(t, r.dir, first).knows(t, newest)
}

func TestTwoFeedsOfOneKeyDoNotMix(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	mine := sign(t, key, list(1, 5))
	r.accepts(t, mine)
	other := list(9, 9)
	other.Feed = feed + "-other"
	r.refuses(t, sign(t, key, other), "of the feed "+other.Feed)

	// Both may remember in one directory.
	second, err := trust.Open(trust.Options{Keys: []release.PublicKey{key.Public()}, Feed: other.Feed, Dir: r.dir})
	require.NoError(t, err)
	_, ok := second.Newest()
	assert.False(t, ok)
	_, err = second.Offer(t.Context(), "http://a", sign(t, key, other))
	require.NoError(t, err)
	require.Len(t, files(t, r.dir), 2)
	r.again(t).knows(t, mine)
}

func TestAReleaseExpiresByTheLaterOfClockAndIssue(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	first := list(1, 10)
	r.accepts(t, sign(t, key, first))
	*r.now = first.Expires.Add(-time.Second)
	require.NoError(t, r.Check())
	*r.now = first.Expires
	err := r.Check()
	require.ErrorIs(t, err, trust.ErrExpired)
	require.NotErrorIs(t, err, trust.ErrNotTrusted)
	for _, part := range []string{
		"number 10 of epoch 1", "issued at 2026-11-29T12:10:00Z", "valid until 2026-11-29T13:10:00Z",
		"it is 2026-11-29T13:10:00Z now", "or the clock of this machine is wrong",
	} {
		require.ErrorContains(t, err, part)
	}
	r.knows(t, sign(t, key, first))
	renewed := list(1, 11)
	renewed.Issued, renewed.Expires = first.Expires, first.Expires.Add(time.Hour)
	r.accepts(t, sign(t, key, renewed))
	require.NoError(t, r.Check())
	never := list(1, 12)
	never.Expires = time.Time{}
	r.accepts(t, sign(t, key, never))
	*r.now = start.AddDate(500, 0, 0)
	require.NoError(t, r.Check())
}

// TestAClockThatLagsDoesNotHideThatAReleaseIsOld has the time come from another key's release.
func TestAClockThatLagsDoesNotHideThatAReleaseIsOld(t *testing.T) {
	key, other := newKey(t), newKey(t)
	r := open(t, key, other)
	*r.now = time.Unix(0, 0)
	low := list(1, 5)
	r.accepts(t, sign(t, key, low))
	assert.Equal(t, low.Issued, r.Time())
	assert.Contains(t, r.log.String(), "the clock of this machine or of the publisher is wrong")
	next := list(1, 6)
	next.Issued, next.Expires = start.Add(-time.Hour), start
	r.accepts(t, sign(t, other, next))
	require.ErrorIs(t, r.Check(), trust.ErrExpired, "the other key's release says how late it is at least")
}

// TestAPublishersClockThatWasAheadIsSetRight holds that the next release makes it good.
func TestAPublishersClockThatWasAheadIsSetRight(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	ahead := list(1, 5)
	ahead.Issued = start.AddDate(1, 0, 0)
	ahead.Expires = ahead.Issued.Add(time.Hour)
	r.accepts(t, sign(t, key, ahead))
	require.NoError(t, r.Check())
	assert.Contains(t, r.log.String(), "release issued in the future")
	r.accepts(t, sign(t, key, list(1, 6)))
	require.NoError(t, r.Check())
	require.NoError(t, r.again(t).Check())
}

func TestAClockThatIsAheadSaysSo(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	*r.now = start.AddDate(1, 0, 0)
	r.accepts(t, sign(t, key, list(1, 5)))
	require.ErrorIs(t, r.Check(), trust.ErrExpired)
	require.ErrorContains(t, r.Check(), "it is 2027-11-29T12:00:00Z now")
	*r.now = start
	require.NoError(t, r.Check())
}

func TestServersWithoutAReleaseAreNamed(t *testing.T) {
	r := open(t, newKey(t))
	require.ErrorContains(t, r.Check(), "no server has answered yet")
	for i := range 10 {
		_, err := r.Offer(t.Context(), fmt.Sprintf("http://%d", i), nil)
		require.NoError(t, err, "a node that knows no releases may have shards")
	}
	err := r.Check()
	require.ErrorIs(t, err, trust.ErrNotTrusted)
	require.ErrorContains(t, err, "not trusted: there is no release of the feed weights.example.org/llama by the key "+
		r.keys[0].Public().ID()+": http://0 offers none; http://1 offers none; ")
	require.ErrorContains(t, err, "http://7 offers none; and others")
	assert.Equal(t, uint64(10), r.Counts().None)
	r.Forget("http://0")
	assert.Len(t, r.Servers(), 9)
}

func TestAServerWhoseReleaseDoesNotComeIsNamed(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	for range 2 {
		r.Failed("http://a", errors.New("not received within 30s"))
	}
	require.ErrorContains(t, r.Check(), ": http://a: not received within 30s")
	assert.Equal(t, trust.StateUnknown, r.Servers()[0].State)
	r.Failed("http://a", errors.New("http://a/release.txt: sent nothing for 30s"))
	require.ErrorContains(t, r.Check(), ": http://a/release.txt: sent nothing for 30s")
	assert.Equal(t, trust.Counts{}, r.Counts())
	r.accepts(t, sign(t, key, list(1, 5)))
	r.Failed("http://a", errors.New("not received within 30s"))
	assert.Equal(t, trust.StateNewest, r.Servers()[0].State, "what it has offered stands")
}

func TestWhatServersOfferIsBounded(t *testing.T) {
	r := open(t, newKey(t))
	for i := range 1000 {
		*r.now = r.now.Add(time.Second)
		_, err := r.Offer(t.Context(), fmt.Sprintf("http://%04d", i), nil)
		require.NoError(t, err)
	}
	servers := r.Servers()
	require.Len(t, servers, 256)
	assert.Equal(t, "http://0744", servers[0].Name, "the newest are known")
}

func TestARefusalIsLoggedOnceAndCountedEachTime(t *testing.T) {
	r := open(t, newKey(t))
	file := sign(t, newKey(t), list(1, 5))
	for range 3 {
		r.refuses(t, file, "signed by the key")
	}
	assert.Equal(t, 1, strings.Count(r.log.String(), "release refused"))
	servers := r.Servers()
	require.Len(t, servers, 1)
	assert.Equal(t, uint64(3), servers[0].Offers)
	assert.Equal(t, *r.now, servers[0].Since)
	require.ErrorContains(t, servers[0].Err, "signed by the key")
	assert.Equal(t, uint64(3), r.Counts().Refused)
	r.refuses(t, sign(t, newKey(t), list(1, 6)), "signed by the key")
	assert.Equal(t, 2, strings.Count(r.log.String(), "release refused"), "another text")
}

func TestACopiedStateDirectoryKnowsTheSame(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	old := sign(t, key, list(1, 4))
	r.accepts(t, old)
	backup := filepath.Join(t.TempDir(), "backup")
	require.NoError(t, os.CopyFS(backup, os.DirFS(r.dir)))
	newest := sign(t, key, list(1, 5))
	r.accepts(t, newest)
	copied := filepath.Join(t.TempDir(), "copied")
	require.NoError(t, os.CopyFS(copied, os.DirFS(r.dir)))
	openIn(t, copied, key).knows(t, newest)

	// A restored one knows what it knew then, no less, and learns the rest again.
	restored := openIn(t, backup, key)
	restored.knows(t, old)
	restored.ignores(t, sign(t, key, list(1, 3)))
	restored.accepts(t, newest)
	restored.again(t).knows(t, newest)
}

// TestASpoiltStateIsSaid has a file of the state replaced: by nothing that was not signed is anything won.
func TestASpoiltStateIsSaid(t *testing.T) {
	key := newKey(t)
	foreign := list(1, 9)
	foreign.Feed = "foreign"
	for name, content := range map[string][]byte{
		"garbage":           []byte("\x00\x01"),
		"another key's":     sign(t, newKey(t), list(1, 9)),
		"another feed's":    sign(t, key, foreign),
		"more than a text":  make([]byte, release.MaxSize+1),
		"a changed release": bytes.Replace(sign(t, key, list(1, 9)), []byte("size=1"), []byte("size=2"), 1),
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, key)
			r.accepts(t, sign(t, key, list(1, 5)))
			names := files(t, r.dir)
			require.Len(t, names, 1)
			require.NoError(t, os.WriteFile(filepath.Join(r.dir, names[0]), content, 0o600))
			r = r.again(t)
			r.knows(t, nil)
			assert.Contains(t, r.log.String(), "level=WARN")
			r.accepts(t, sign(t, key, list(1, 6)))
			r.again(t).knows(t, sign(t, key, list(1, 6)))
		})
	}
}

func TestAKeepersStateThatCannotBeWrittenIsSaidOnce(t *testing.T) {
	key := newKey(t)
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"a file in its place": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(dir, nil, 0o600))
		},
		"a link as its lock": func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), filepath.Join(dir, "releases.lock")))
		},
		"a directory in the way": func(t *testing.T, dir string) {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "releases.tmp", "x"), 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			spoil(t, dir)
			r := openIn(t, dir, key)
			r.accepts(t, sign(t, key, list(1, 5)))
			r.ignores(t, sign(t, key, list(1, 4)))
			r.accepts(t, sign(t, key, list(1, 6)))
			assert.Equal(t, 1, strings.Count(r.log.String(), "state directory of no use"), r.log.String())
			assert.Contains(t, r.log.String(), dir)
			r.again(t).knows(t, nil)
		})
	}
}

func TestWithoutAStateDirectoryNothingIsWritten(t *testing.T) {
	key := newKey(t)
	t.Chdir(t.TempDir())
	r := openIn(t, "", key)
	r.accepts(t, sign(t, key, list(1, 5)))
	r.ignores(t, sign(t, key, list(1, 4)))
	assert.Empty(t, files(t, "."))
	assert.NotContains(t, r.log.String(), "WARN")
}

// TestProcessesShareAStateDirectory has several of them take releases up in any order.
func TestProcessesShareAStateDirectory(t *testing.T) {
	key := newKey(t)
	dir := filepath.Join(t.TempDir(), "state")
	var texts [][]byte
	for seq := range uint64(20) {
		texts = append(texts, sign(t, key, list(1, seq+1)))
	}
	var all sync.WaitGroup
	readers := make([]reader, 4)
	for i := range readers {
		readers[i] = openIn(t, dir, key)
	}
	for i, r := range readers {
		all.Go(func() {
			for j := range texts {
				_, err := r.Offer(t.Context(), "http://a", texts[(j*7+i*5)%len(texts)])
				assert.NoError(t, err)
			}
		})
	}
	all.Wait()
	newest := texts[len(texts)-1]
	for _, r := range readers {
		r.knows(t, newest)
	}
	openIn(t, dir, key).knows(t, newest)
	assert.Len(t, files(t, dir), 1)
}

// TestAReleaseOfAnotherProcessCounts holds that an offer is measured by what any process has seen.
func TestAReleaseOfAnotherProcessCounts(t *testing.T) {
	key := newKey(t)
	first := open(t, key)
	second := openIn(t, first.dir, key)
	first.accepts(t, sign(t, key, list(1, 9)))
	news, err := second.Offer(t.Context(), "http://a", sign(t, key, list(1, 5)))
	require.NoError(t, err)
	assert.True(t, news, "the one that the other process has seen")
	second.knows(t, sign(t, key, list(1, 9)))
	assert.Equal(t, trust.Counts{Older: 1}, second.Counts())

	first.accepts(t, sign(t, key, list(2, 9)))
	other := list(2, 9)
	other.Entries = nil
	_, err = second.Offer(t.Context(), "http://a", sign(t, key, other))
	require.ErrorIs(t, err, trust.ErrNotTrusted)
	second.knows(t, sign(t, key, list(2, 9)))
}

// TestTheNewestIsAlwaysTheHighestOffered offers any sequence of good and bad texts, with restarts,
// and compares with a model.
func TestTheNewestIsAlwaysTheHighestOffered(t *testing.T) {
	keys := []release.PrivateKey{newKey(t), newKey(t), newKey(t)}
	dirs := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		r := openIn(t, filepath.Join(dirs, fmt.Sprint(run)), keys[:2]...)
		var best release.Release
		var bestFile []byte
		for range rapid.IntRange(1, 12).Draw(rt, "offers") {
			l := list(rapid.Uint64Range(1, 3).Draw(rt, "epoch"), rapid.Uint64Range(1, 3).Draw(rt, "seq"))
			l.Entries = l.Entries[:rapid.IntRange(0, 1).Draw(rt, "entries")]
			by := rapid.IntRange(0, 2).Draw(rt, "key")
			file := sign(t, keys[by], l)
			server := rapid.SampledFrom([]string{"http://a", "http://b"}).Draw(rt, "server")
			_, err := r.Offer(t.Context(), server, file)
			order := l.Compare(best)
			same := len(best.Entries) == len(l.Entries)
			require.Equal(rt, by == 2 || order == 0 && !same, err != nil)
			if by < 2 && order > 0 {
				best, bestFile = l, file
			}
			if rapid.IntRange(0, 4).Draw(rt, "restart") == 0 {
				r = r.again(t)
			}
			newest, _ := r.Newest()
			require.Equal(rt, len(bestFile) > 0, len(newest.Bytes()) > 0)
			require.Zero(rt, newest.Release.Compare(best))
			require.Len(rt, newest.Release.Entries, len(best.Entries))
		}
	})
}

// TestNothingIsUsedBeforeItIsOnTheDisk looks from outside while releases come: what a process uses, another
// one that begins now knows.
func TestNothingIsUsedBeforeItIsOnTheDisk(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	var texts [][]byte
	for seq := range uint64(50) {
		texts = append(texts, sign(t, key, list(1, seq+1)))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, text := range texts {
			_, err := r.Offer(t.Context(), "http://a", text)
			assert.NoError(t, err)
		}
	}()
	for {
		used, _ := r.Newest()
		remembered, _ := r.again(t).Newest()
		require.GreaterOrEqual(t, remembered.Release.Compare(used.Release), 0)
		select {
		case <-done:
			return
		default:
		}
	}
}

// TestATextThatWasJudgedCostsNothing holds that a server which says the same again has nothing parsed.
func TestATextThatWasJudgedCostsNothing(t *testing.T) {
	key := newKey(t)
	r := open(t, key)
	newest := sign(t, key, list(1, 1000))
	r.accepts(t, newest)
	for name, file := range map[string][]byte{
		"newest": newest, "older": sign(t, key, list(1, 999)), "refused": sign(t, newKey(t), list(1, 999)),
	} {
		offer := func() { _, _ = r.Offer(t.Context(), "http://"+name, file) }
		offer()
		assert.Less(t, testing.AllocsPerRun(10, offer), 20.0, name)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := trust.Open(trust.Options{Feed: feed})
	require.ErrorContains(t, err, "Keys")
	_, err = trust.Open(trust.Options{Keys: []release.PublicKey{newKey(t).Public()}, Feed: "a b"})
	require.ErrorContains(t, err, "Feed")
}
