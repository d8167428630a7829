package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func TestOpenMakesTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	st := open(t, dir, store.Origin)
	assert.Equal(t, dir, st.Dir())
	assert.Equal(t, []string{".shardcast/drafts", ".shardcast/retired"}, tree(t, dir))
	assert.Empty(t, offered(t, st))
	_, err := st.Manifest(1)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, _, err = st.Shard(1, 1)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestStatDistributionDescribesTheFileOfDistribution(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	st := open(t, dir, store.Origin)
	_, err := st.StatDistribution()
	require.ErrorIs(t, err, fs.ErrNotExist)
	moved := dir + "-moved"
	require.NoError(t, os.Rename(dir, moved))
	write(t, moved, distfile.FileName, "v1: \n")
	info, err := st.StatDistribution()
	require.NoError(t, err)
	assert.EqualValues(t, 5, info.Size())
}

func TestOpenRefusesPathsThatCannotBeADataDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "file", "kept")
	write(t, dir, "data/.shardcast", "kept")
	for name, dir := range map[string]string{
		"a file":                          filepath.Join(dir, "file"),
		"below a file":                    filepath.Join(dir, "file", "data"),
		"with a file as the private part": filepath.Join(dir, "data"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := store.Open(dir, store.Origin)
			require.Error(t, err)
			require.ErrorContains(t, err, "data directory")
		})
	}
	assert.Equal(t, []string{"data/.shardcast", "file"}, tree(t, dir))
	assert.Equal(t, "kept", read(t, dir, "file"))
}

func TestClaimIsForOneServerAndNamesIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := open(t, dir, store.Middle)
	release, err := first.Claim(t.Context())
	require.NoError(t, err)

	for _, role := range []store.Role{store.Origin, store.Middle} {
		_, err := open(t, dir, role).Claim(t.Context())
		require.ErrorIs(t, err, store.ErrInUse)
		require.ErrorContains(t, err, dir)
		require.ErrorContains(t, err, fmt.Sprintf("kept by shardcast-middle (process %d)", os.Getpid()))
	}

	require.NoError(t, release())
	claim(t, open(t, dir, store.Origin))
}

func TestClaimOfAFreeDirectoryIsNotInUseBecauseTheContextHasEnded(t *testing.T) {
	st := open(t, t.TempDir(), store.Origin)
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"cancelled": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		},
		"late": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithDeadline(ctx, time.Now().Add(-time.Second))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := end(t.Context())
			defer cancel()
			_, err := st.Claim(ctx)
			require.Error(t, err)
			require.NotErrorIs(t, err, store.ErrInUse)
			require.ErrorIs(t, err, ctx.Err())
		})
	}
}

func TestLockHeedsTheServerOfTheDirectory(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		server, writer store.Role
		want           error
	}{
		"an origin beside an origin": {store.Origin, store.Origin, nil},
		"a middle beside a middle":   {store.Middle, store.Middle, nil},
		"an origin beside a middle":  {store.Middle, store.Origin, store.ErrInUse},
		"a middle beside an origin":  {store.Origin, store.Middle, store.ErrInUse},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			release, err := open(t, dir, tc.server).Claim(t.Context())
			require.NoError(t, err)
			writer := open(t, dir, tc.writer)

			w, err := writer.Lock(t.Context())
			require.ErrorIs(t, err, tc.want)
			if tc.want == nil {
				require.NoError(t, w.Unlock())
			} else {
				require.ErrorContains(t, err, string(tc.server))
			}

			require.NoError(t, release())
			recoverCrash(t, writer)
		})
	}
}

func TestNoServerOfTheOtherRoleBeginsWhileAWriterWorks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	publisher, server := open(t, dir, store.Origin), open(t, dir, store.Middle)
	w, err := publisher.Lock(t.Context())
	require.NoError(t, err)

	_, err = server.Claim(t.Context())
	require.ErrorIs(t, err, store.ErrInUse)
	require.ErrorContains(t, err, "kept by shardcast-origin", "the user must know what to stop")

	d, m := draft(t, publisher, 1, textOf(1))
	require.NoError(t, w.Publish(d, m))
	require.NoError(t, w.Unlock())
	claim(t, server)
	requireWhole(t, server, 1)
}

func TestServerAndPublisherOfOneRoleNeverRefuseEachOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	release, err := open(t, dir, store.Middle).Claim(t.Context())
	require.NoError(t, err)
	require.NoError(t, release(), "an earlier server, which has left its traces")

	group, ctx := errgroup.WithContext(t.Context())
	ctx, end := context.WithCancel(ctx)
	server, publisher := open(t, dir, store.Origin), open(t, dir, store.Origin)
	group.Go(func() error {
		defer end()
		for range 50 {
			release, err := server.Claim(ctx)
			if err != nil {
				return fmt.Errorf("claim: %w", err)
			}
			if err := release(); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for {
			w, err := publisher.Lock(ctx)
			if ctx.Err() != nil {
				if err == nil {
					err = w.Unlock()
				}
				return ignore(err, context.Canceled)
			}
			if err != nil {
				return err
			}
			if err := w.Unlock(); err != nil {
				return err
			}
		}
	})
	require.NoError(t, group.Wait())
}

// ignore returns err, or nil if it matches target.
func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

func TestConcurrentPublishersGetDistinctVersions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const publishers, each = 8, 3
	var group errgroup.Group
	published := make(chan shard.Version, publishers*each)
	for range publishers {
		st := open(t, dir, store.Origin)
		group.Go(func() error {
			for range each {
				v, err := broadcast(t.Context(), st, 100)
				if err != nil {
					return err
				}
				published <- v
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	close(published)

	var want, got []shard.Version
	for v := range published {
		got = append(got, v)
	}
	for v := shard.Version(1); v <= publishers*each; v++ {
		want = append(want, v)
	}
	assert.ElementsMatch(t, want, got)
	requireWhole(t, open(t, dir, store.Origin), want...)
	assert.Equal(t, clean(want...), tree(t, dir))
}

// broadcast publishes as an origin does.
func broadcast(ctx context.Context, st *store.Store, keep int) (v shard.Version, err error) {
	if err := st.Keep(ctx, keep); err != nil {
		return 0, err
	}
	w, err := st.Lock(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Unlock()) }()
	if v, err = w.Next(); err != nil {
		return 0, err
	}
	d, err := st.Draft(v)
	if err != nil {
		return 0, err
	}
	m, err := cut(ctx, d, textOf(v))
	if err != nil {
		return 0, err
	}
	if os.Getenv(victimDeltas) != "" && v > 1 {
		if _, err := makeDelta(ctx, d, &m, v-1); err != nil {
			return 0, err
		}
	}
	return v, w.Publish(d, m)
}

func TestLockReturnsTheCauseOfTheContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	holder, st := open(t, dir, store.Origin), open(t, dir, store.Origin)
	w, err := holder.Lock(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, w.Unlock()) }()

	reason := errors.New("the user has left")
	for name, tc := range map[string]struct {
		end  func(context.Context) (context.Context, context.CancelFunc)
		want error
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		}, context.DeadlineExceeded},
		"deadline passed before": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithDeadline(ctx, time.Now().Add(-time.Second))
		}, context.DeadlineExceeded},
		"cancel": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, context.Canceled},
		"cancel with a cause": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(reason)
			return ctx, func() {}
		}, reason},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := tc.end(t.Context())
			defer cancel()
			_, err := st.Lock(ctx)
			require.ErrorIs(t, err, tc.want)
			require.NotErrorIs(t, err, store.ErrInUse)
		})
	}
}

func TestLockWaitsForTheOtherWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	holder, waiter := open(t, dir, store.Origin), open(t, dir, store.Origin)
	w, err := holder.Lock(t.Context())
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	locked := make(chan error, 1)
	go func() {
		w, err := waiter.Lock(ctx)
		if err == nil {
			err = w.Unlock()
		}
		locked <- err
	}()
	select {
	case err := <-locked:
		require.FailNow(t, "two writers at once", "%v", err)
	case <-time.After(100 * time.Millisecond):
	}
	require.NoError(t, w.Unlock())
	require.NoError(t, <-locked)
}

func TestDamagedStateStopsWritersAndNoReaders(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":         "",
		"half":            `{"last":`,
		"negative":        `{"last":-1}`,
		"too large":       `{"last":1e30}`,
		"of another kind": `["v1"]`,
		"bad moving":      `{"last":2,"moving":["../v1"]}`,
		"no number":       `{"last":18446744073709551615}`,
		"v0":              `{"last":2,"moving":[0]}`,
		"too high":        `{"last":2,"moving":[1000000000000000000]}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Origin)
			publish(t, st, 5)
			publish(t, st, 5)
			good := read(t, dir, ".shardcast/state.json")
			write(t, dir, ".shardcast/state.json", text)

			_, err := st.Lock(t.Context())
			require.Error(t, err)
			require.ErrorContains(t, err, dir)
			require.ErrorContains(t, err, "state.json")
			require.ErrorContains(t, err, "mend it, or remove it")
			requireWhole(t, st, 1, 2)
			assert.Equal(t, clean(1, 2), tree(t, dir))

			write(t, dir, ".shardcast/state.json", good)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			w, err := st.Lock(ctx)
			require.NoError(t, err, "the lock was given back")
			require.NoError(t, w.Unlock())
			assert.Equal(t, shard.Version(3), publish(t, st, 5))
		})
	}
}

// A state that is accepted has numbers of versions alone, which are the names of directories.
func FuzzState(f *testing.F) {
	for _, text := range []string{
		"", "null", "[]", `{"last":0}`, `{"last":7}`, `{"last":7,"moving":[6,7]}`, `{"last":-1}`, `{"last":1e3}`,
		`{"last":1,"moving":["../v1"]}`, `{"last":18446744073709551615}`, `{"moving":[0]}`, `{"LAST":3,"moving":null}`,
		`{"last":999999999999999999}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		last, moving, err := store.ParseState(text)
		if err != nil {
			require.Zero(t, last)
			require.Empty(t, moving)
			return
		}
		require.LessOrEqual(t, last, shard.MaxVersion)
		for _, v := range moving {
			parsed, err := shard.ParseVersion(v.String())
			require.NoError(t, err)
			require.Equal(t, v, parsed)
		}
	})
}

func TestDamagedDistributionIsReadAsFarAsItGoesAndNeverWrittenOver(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []shard.Version
	}{
		"half a line":    {distribution(1) + distribution(2)[:20], []shard.Version{1}},
		"a foreign line": {"# mine\n" + distribution(2), []shard.Version{2}},
		"binary":         {"\x00\xff\n\n: |\nv0: \nv-1: x\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Origin)
			publish(t, st, 5)
			publish(t, st, 5)
			write(t, dir, distfile.FileName, tc.text)

			requireWhole(t, st, tc.want...)
			before := tree(t, dir)
			_, err := st.Lock(t.Context())
			require.ErrorContains(t, err, "mend or remove the line")
			assert.Equal(t, before, tree(t, dir))

			write(t, dir, distfile.FileName, "")
			assert.Equal(t, shard.Version(3), publish(t, st, 5), "no number comes back")
			requireWhole(t, st, 3)
		})
	}
}

func TestUnreadableDistributionIsAnErrorAndIsKept(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"too long": func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, distfile.FileName), distfile.MaxSize+1))
		},
		"a directory": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, distfile.FileName)))
			write(t, dir, distfile.FileName+"/file", "kept")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			st := open(t, dir, store.Origin)
			publish(t, st, 5)
			spoil(t, dir)
			before := tree(t, dir)

			_, err := st.Distribution()
			require.Error(t, err)
			require.ErrorContains(t, err, dir)
			_, err = st.Lock(t.Context())
			require.Error(t, err)
			assert.Equal(t, before, tree(t, dir))
			text, err := content(st, 1)
			require.NoError(t, err)
			assert.Equal(t, textOf(1), text)
		})
	}
}

func TestDistributionTooLongIsNamed(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, store.Origin)
	publish(t, st, 5)
	require.NoError(t, os.Truncate(filepath.Join(dir, distfile.FileName), distfile.MaxSize+1))
	_, err := st.Distribution()
	require.ErrorIs(t, err, distfile.ErrTooLong)
}
