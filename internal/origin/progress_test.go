package origin_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/shard"
)

// slow is a reader of which each read takes a while.
type slow struct {
	io.Reader

	read time.Duration
}

func (s slow) Read(p []byte) (int, error) {
	<-time.After(s.read)
	return s.Reader.Read(p[:min(len(p), 100)])
}

func TestABroadcastReportsItsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := open(t, t.TempDir())
		var reports []origin.Progress
		got, err := newOrigin(st, 10).BroadcastAs(t.Context(), "-", origin.Options{
			Input:    slow{bytes.NewReader(content(1, 1000)), 600 * time.Millisecond},
			Progress: func(p origin.Progress) { reports = append(reports, p) },
		})
		require.NoError(t, err)
		assert.Equal(t, shard.Version(1), got.Version)
		assert.EqualValues(t, 1000, got.Manifest.Size)

		require.Greater(t, len(reports), 20, "four a second")
		done := int64(0)
		for _, p := range reports[:len(reports)-1] {
			assert.Equal(t, origin.Cutting, p.Phase)
			assert.EqualValues(t, shard.UnknownSize, p.Size)
			assert.GreaterOrEqual(t, p.Done, done)
			done = p.Done
		}
		assert.EqualValues(t, 1000, done)
		last := reports[len(reports)-1]
		assert.Equal(t, origin.Syncing, last.Phase)
		assert.EqualValues(t, 1000, last.Size, "it is known now")
		last.Phase = ""
		assert.Equal(t, last, got.Progress)
		assert.InDelta(t, 150, last.Speed, 20)
	})
}

func TestABroadcastThatTakesLongIsLoggedEveryTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := open(t, t.TempDir())
		var log strings.Builder
		o := origin.New(st, shardSize, 10, slog.New(slog.NewTextHandler(&log, nil)))
		broadcast := func(input io.Reader) (lines []string) {
			_, err := o.BroadcastAs(t.Context(), "-", origin.Options{Input: input})
			require.NoError(t, err)
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "msg=publishing") {
					lines = append(lines, line)
				}
			}
			log.Reset()
			return lines
		}
		data := bytes.NewReader(content(1, 1000))
		lines := broadcast(slow{data, 2100 * time.Millisecond}) // 23.1 s in all
		require.Len(t, lines, 3, "after 1, 11 and 21 seconds")
		assert.Contains(t, lines[0], "version=v1 file=stdin phase=cutting bytes=0 ")
		assert.Contains(t, lines[1], "bytes=500 ")
		assert.Empty(t, broadcast(iotest.OneByteReader(strings.NewReader("quick"))))
	})
}

func TestABroadcastThatWaitsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w, err := open(t, dir).Lock(t.Context())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var last origin.Progress
		path := file(t, content(1, 1000))
		_, err = newOrigin(open(t, dir), 10).BroadcastAs(ctx, path, origin.Options{
			Progress: func(p origin.Progress) { last = p },
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, origin.Progress{Phase: origin.Waiting, Size: 1000, Elapsed: 2 * time.Second}, last)
		require.NoError(t, w.Unlock())
		require.NoError(t, os.Remove(path))
	})
}

// ending is an input of which each read calls a function first.
type ending struct {
	io.Reader

	before func()
}

func (e ending) Read(p []byte) (int, error) {
	e.before()
	return e.Reader.Read(p)
}

func TestABroadcastOfAnInputEndsWithItsContext(t *testing.T) {
	for name, input := range map[string]func(cancel func()) io.Reader{
		"the input has nothing to give": func(cancel func()) io.Reader {
			out, in := io.Pipe()
			t.Cleanup(func() { _ = in.Close() }) // and with it the read
			return ending{out, cancel}
		},
		"the program that writes it has ended, too": func(cancel func()) io.Reader {
			return ending{strings.NewReader(""), cancel}
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := open(t, t.TempDir())
			ctx, cancel := context.WithCancelCause(t.Context())
			interrupted := errors.New("interrupted")
			_, err := newOrigin(st, 10).BroadcastAs(ctx, "-", origin.Options{
				Input: input(func() { cancel(interrupted) }),
			})
			require.ErrorIs(t, err, interrupted)
			listed, err := st.Distribution()
			require.NoError(t, err)
			assert.Empty(t, listed)
		})
	}
}
