package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/verify"
	"github.com/shardcast/shardcast/internal/wire"
)

// pipes is a listener of connections that are no sockets, so that tests can have a clock of
// their own.
type pipes struct{ conns chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// answer has h answer the requests of t, of which the path is the number of a shard, and
// the host the server.
func answer(t *testing.T, of *Transfer, h http.HandlerFunc) {
	t.Helper()
	p := pipes{make(chan net.Conn)}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Hour}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(p)
	}()
	dial := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		p.conns <- theirs
		return ours, nil
	}
	client := remote.New(remote.Options{Timeout: time.Minute, Dial: dial})
	of.opts.Get = func(ctx context.Context, s *remote.Server, number int, r remote.Request) (*remote.Body, error) {
		r.Path = []string{fmt.Sprint(number)}
		return client.Get(ctx, s, r)
	}
	t.Cleanup(func() {
		client.Close()
		close(p.conns)
		<-served
		assert.NoError(t, server.Close())
	})
}

// send answers with data, or the part of it that is requested.
func send(w http.ResponseWriter, r *http.Request, data []byte) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// breakOff sends so many bytes of data, and then ends the connection.
func breakOff(w http.ResponseWriter, data []byte, bytes int) {
	w.Header().Set("Content-Length", fmt.Sprint(len(data)))
	_, _ = w.Write(data[:bytes])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// relayed states that a server passes on the bytes of another one.
func relayed(w http.ResponseWriter) { w.Header().Set(wire.TierHeader, "1") }

func TestPull(t *testing.T) {
	const size = 1 << 20
	data := noise(1, size)
	what := func(err error) string {
		for name, kind := range map[string]roster.What{
			"moved": roster.Moved, "spared": roster.Spared, "never": roster.Never, "stop": roster.Stop,
		} {
			if roster.Is(err, kind) {
				return name
			}
		}
		return fmt.Sprint(err != nil)
	}
	right := func(w http.ResponseWriter, r *http.Request) { send(w, r, data) }
	chunked := func(sent []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(sent)
		}
	}
	for name, tc := range map[string]struct {
		h       http.HandlerFunc
		present int64  // bytes that were there
		want    string // no error is "false", and one of no kind "true"
		text    string
		is      error
		came    int64 // bytes in place
	}{
		"all":                    {right, 0, "false", "", nil, size},
		"a part":                 {right, 1000, "false", "", nil, size},
		"all in place of a part": {chunked(data), 1000, "false", "", nil, size},
		"another size": {
			func(w http.ResponseWriter, r *http.Request) { send(w, r, data[1:]) },
			0, "never", "wrong size: 1048575 bytes instead of 1048576", shard.ErrIntegrity, 0,
		},
		"a size that leaves nothing of the part": {
			func(w http.ResponseWriter, r *http.Request) { send(w, r, data[:500]) },
			1000, "never", "wrong size: it has fewer bytes", shard.ErrIntegrity, 1000,
		},
		"too little without a length": {
			chunked(data[1:]), 0, "never", "wrong size: 1048575 bytes instead of 1048576", shard.ErrIntegrity, size - 1,
		},
		"an end after a little": {
			func(w http.ResponseWriter, _ *http.Request) { breakOff(w, data, minGain-1) },
			0, "true", "shard 1 broke off", nil, minGain - 1,
		},
		"an end after 64 KiB": {
			func(w http.ResponseWriter, _ *http.Request) { breakOff(w, data, minGain) },
			0, "moved", "shard 1 broke off", nil, minGain,
		},
		"an end of a relay": {func(w http.ResponseWriter, _ *http.Request) {
			relayed(w)
			breakOff(w, data, minGain)
		}, 0, "moved", "shard 1 broke off", ErrInterrupted, minGain},
		"an error": {
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
			0, "true", "500", remote.Status(500), 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				there := &slate{data: append(bytes.Clone(data[:tc.present]), make([]byte, size-tc.present)...)}
				if tc.present > 0 {
					there.there = []disk.Range{{To: tc.present}}
				}
				l, err := land(data, 1, there)
				require.NoError(t, err)
				answer(t, l.Transfer, tc.h)
				s := l.arrival.spans[0]
				err = l.Pull(t.Context(), s, l.servers[0], How{}, make([]byte, 10_000))
				assert.Equal(t, tc.want, what(err), "%v", err)
				if err != nil {
					require.ErrorContains(t, err, tc.text)
				}
				if tc.is != nil {
					require.ErrorIs(t, err, tc.is)
				}
				assert.Equal(t, name == "an end of a relay", errors.Is(err, ErrInterrupted))
				assert.Equal(t, tc.came, s.at)
				assert.Empty(t, l.Pulls(), "it has ended")
				assert.Empty(t, l.blamed)
			})
		})
	}
}

func TestAPullThatIsGivenUpIsContinuedAndItsServerIsSpared(t *testing.T) {
	for name, tc := range map[string]struct {
		why  func(idle *remote.Server) error
		next bool // the server is named that goes on
	}{
		"for being slow":     {func(*remote.Server) error { return ErrSlow }, false},
		"for an idle server": {func(idle *remote.Server) error { return move{idle} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				data := noise(1, 1000)
				l, err := land(data, 2, &slate{data: make([]byte, 1000)})
				require.NoError(t, err)
				answer(t, l.Transfer, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Length", "1000")
					_, _ = w.Write(data[:10])
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				})
				reason := tc.why(l.servers[1])
				time.AfterFunc(time.Second, func() { l.GiveUp(l.Pulls()[0], reason) })
				err = l.Pull(t.Context(), l.arrival.spans[0], l.servers[0], How{}, make([]byte, 100))
				require.ErrorIs(t, err, reason)
				var setback *roster.Setback
				require.ErrorAs(t, err, &setback)
				assert.Equal(t, roster.Spared, setback.What)
				assert.Equal(t, tc.next, setback.Next == l.servers[1])
			})
		})
	}
}

// Its answer begins before the part that is missing, so that it would win no race.
func TestAServerThatKnowsNoRangesLeavesARaceWithoutBlame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := noise(1, 1000)
		l, err := land(data, 1, &slate{data: bytes.Clone(data), there: []disk.Range{{To: 10}}})
		require.NoError(t, err)
		answer(t, l.Transfer, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
		err = l.Pull(t.Context(), l.arrival.spans[0], l.servers[0], How{Race: true}, make([]byte, 100))
		require.ErrorIs(t, err, errRangeless)
		assert.True(t, roster.Is(err, roster.Spared))
		assert.Zero(t, l.progress().Received)
	})
}

// Caches on the way may key a shard by the digest that a server's manifest states. One that
// was wrong is requested without it, or the cache would send the same bytes again.
func TestAShardIsRequestedByItsDigestUntilItIsWrong(t *testing.T) {
	for _, pinned := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			data := noise(1, 1000)
			l, err := land(data, 1, &slate{data: make([]byte, 1000)})
			require.NoError(t, err)
			l.opts.Pinned = pinned
			var queries []string
			answer(t, l.Transfer, func(w http.ResponseWriter, r *http.Request) {
				queries = append(queries, r.URL.RawQuery)
				send(w, r, noise(2, 1000))
			})
			for range 2 {
				require.NoError(t, l.Pull(t.Context(), l.arrival.Missing()[0], l.servers[0], How{}, make([]byte, 100)))
				require.Len(t, l.finish(t.Context(), l.arrival, make([]byte, 100)).Wrong, 1)
			}
			want := []string{"", ""}
			if pinned {
				want[0] = wire.DigestQuery + "=" + l.arrival.check.Shard.Digest.String()
			}
			assert.Equal(t, want, queries)
		})
	}
}

func TestReadersLearnWhetherTheServerHoldsAllOfTheShard(t *testing.T) {
	for _, relay := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			data := noise(1, 1000)
			l, err := land(data, 1, &slate{data: make([]byte, 1000)})
			require.NoError(t, err)
			readers := new(recorder)
			l.audience = readers
			answer(t, l.Transfer, func(w http.ResponseWriter, r *http.Request) {
				if relay {
					relayed(w)
				}
				send(w, r, data)
			})
			require.NoError(t, l.Pull(t.Context(), l.arrival.spans[0], l.servers[0], How{}, make([]byte, 100)))
			assert.Equal(t, map[int][]bool{1: {!relay}}, readers.direct)
		})
	}
}

// A relay cannot know whether the bytes that it passes on are right. It is not to blame for
// its part of a shard that another server has completed.
func TestARelayIsNotToBlameForItsPart(t *testing.T) {
	for _, relay := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			const half = minGain
			data := noise(1, 2*half)
			l, err := land(data, 2, &slate{data: make([]byte, 2*half)})
			require.NoError(t, err)
			readers := new(recorder)
			l.audience = readers
			answer(t, l.Transfer, func(w http.ResponseWriter, r *http.Request) {
				if r.Host == "B" {
					send(w, r, data)
					return
				}
				if relay {
					relayed(w)
				}
				breakOff(w, noise(2, 2*half), half)
			})
			buf := make([]byte, 10_000)
			pull := func(from int) error {
				return l.Pull(t.Context(), l.arrival.Missing()[0], l.servers[from], How{}, buf)
			}
			require.Error(t, pull(0))
			require.NoError(t, pull(1))
			require.Len(t, l.finish(t.Context(), l.arrival, buf).Wrong, 1)
			assert.Equal(t, []int{1}, readers.forgot)
			err = pull(0)
			var setback *roster.Setback
			require.ErrorAs(t, err, &setback)
			assert.Equal(t, l.servers[0], setback.Next, "another server would have to begin anew")
			require.NoError(t, pull(1))
			assert.Equal(t, []int{1, 1}, readers.forgot, "the bytes of the first one are dropped")
			require.True(t, l.finish(t.Context(), l.arrival, buf).Whole)
			assert.Equal(t, !relay, l.blamed["http://A"])
			assert.False(t, l.blamed["http://B"])
		})
	}
}

func TestReadersAreWarnedWhenAShardIsDropped(t *testing.T) {
	data := noise(1, 100)
	l, err := land(data, 1, &slate{data: make([]byte, 100)})
	require.NoError(t, err)
	readers := new(recorder)
	l.audience = readers
	_, err = l.take(l.join(l.arrival.spans[0], l.servers[0], false, ignore), 0, data[:50])
	require.NoError(t, err)
	require.NoError(t, l.Drop(l.arrival))
	assert.Equal(t, []int{1}, readers.forgot)
}

// several is a sink of several shards.
type several struct{ places []*slate }

func (s several) Open(of shard.Shard) (Place, error) { return s.places[of.Number-1], nil }

// file is the transfer of several shards of a byte each, from the servers A and B.
type file struct {
	*Transfer

	data   []byte
	sink   several
	roster *roster.Roster
}

func newFile(shards, workers int, audience Audience) *file {
	f := &file{data: noise(3, shards), roster: rosterOf("A", "B")}
	m := shard.Manifest{Size: int64(shards), ShardSize: 1, Digest: sha256.Sum256(f.data)}
	for i := range shards {
		m.Shards = append(m.Shards, sha256.Sum256(f.data[i:i+1]))
		f.sink.places = append(f.sink.places, &slate{data: make([]byte, 1)})
	}
	open := func(s shard.Shard) (verify.Place, error) { return f.sink.places[s.Number-1], nil }
	f.Transfer = New(Options{
		Version: 1, Manifest: m, Sink: f.sink, Audience: audience, Roster: f.roster, Workers: workers,
		Logger:   slog.New(slog.DiscardHandler),
		Verifier: verify.New(verify.Options{Manifest: m, Listed: m.Digest, BLAKE3: true, Open: open}),
		Tally:    NewTally(1, f.roster, nil, func() []State { return nil }, func(Progress) {}),
		Blame:    func(context.Context, *remote.Server, error) {},
	})
	return f
}

// run fetches the file in order.
func (f *file) run(ctx context.Context, tier int) error {
	_, err := f.Run(ctx, NewInOrder(f.Transfer, time.Minute, tier, func(do func(*remote.Server) error) roster.Job {
		return roster.Job{
			May: func(*remote.Server) bool { return true }, Do: do, Logger: f.opts.Logger,
			Refuse: func(context.Context, *remote.Server, error) {}, Again: func(context.Context) {},
			Gone:   func(context.Context, *remote.Server) bool { return false },
			Failed: func(errs []error) error { return errors.Join(errs...) },
		}
	}))
	return err
}

// A server that has the version from this node must not make it wait for bytes, or each
// would wait for the other.
func TestTheTierIsStatedWhereReadersFollow(t *testing.T) {
	for want, audience := range map[string]Audience{"": nil, "3": new(recorder)} {
		synctest.Test(t, func(t *testing.T) {
			f := newFile(3, 1, audience)
			requests := 0
			answer(t, f.Transfer, func(w http.ResponseWriter, r *http.Request) {
				requests++
				assert.Equal(t, want, r.Header.Get(wire.TierHeader))
				assert.Equal(t, "wait=10", r.Header.Get("Prefer"))
				_, _ = w.Write(f.data[r.URL.Path[1]-'1':][:1])
			})
			require.NoError(t, f.run(t.Context(), 3))
			assert.Equal(t, 3, requests)
			for i, place := range f.sink.places {
				assert.Equal(t, f.data[i:i+1], place.data)
				assert.True(t, place.committed)
			}
		})
	}
}

// While readers wait, no more than two shards come that no reader has waited for, and a
// worker that rests begins a shard as soon as a reader wants it.
func TestShardsThatReadersWaitForComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		readers := &recorder{wanted: make(chan int, 9), asked: make(map[int]bool)}
		f := newFile(9, 4, readers)
		begun := make(chan string, 9)
		goOn := make(chan struct{})
		answer(t, f.Transfer, func(w http.ResponseWriter, r *http.Request) {
			begun <- strings.TrimPrefix(r.URL.Path, "/")
			<-goOn
			_, _ = w.Write(f.data[r.URL.Path[1]-'1':][:1])
		})
		want := func(number int) {
			readers.mu.Lock()
			readers.asked[number] = true
			readers.mu.Unlock()
			readers.wanted <- number
		}
		have := func() (numbers []string) {
			synctest.Wait()
			for len(begun) > 0 {
				numbers = append(numbers, <-begun)
			}
			return numbers
		}
		want(7)
		ended := make(chan error)
		go func() { ended <- f.run(t.Context(), 1) }()
		assert.ElementsMatch(t, []string{"7", "1", "2"}, have(), "and the fourth worker rests")
		want(5)
		assert.Equal(t, []string{"5"}, have(), "at once")
		close(goOn)
		require.NoError(t, <-ended)
		assert.Len(t, have(), 5)
	})
}

func TestAShardThatIsWrongComesAgainBeforeOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(5, 1, new(recorder))
		var asked []string
		answer(t, f.Transfer, func(w http.ResponseWriter, r *http.Request) {
			number := r.URL.Path[1] - '0'
			if asked = append(asked, r.URL.Path[1:]); len(asked) == 2 {
				_, _ = w.Write([]byte{f.data[number-1] ^ 1})
				return
			}
			_, _ = w.Write(f.data[number-1:][:1])
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, f.run(ctx, 1))
		assert.Equal(t, []string{"1", "2", "2", "3", "4", "5"}, asked)
	})
}

func TestTheSpansOfAWrongShardComeBeforeThoseOfOthers(t *testing.T) {
	f := newFile(2, 1, nil)
	p := NewInOrder(f.Transfer, time.Minute, 1, nil)
	require.NoError(t, p.begin(t.Context(), 1))
	wrong, err := f.Open(t.Context(), 2)
	require.NoError(t, err)
	require.NoError(t, p.ended(t.Context(), Result{Wrong: []*Arrival{wrong}}))
	j, ok := p.first()
	require.True(t, ok)
	assert.Equal(t, 2, j.Shard.Number())
}

func TestPlacesAreClosedWhenATransferEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(3, 2, nil)
		answer(t, f.Transfer, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, f.run(ctx, 1), context.DeadlineExceeded)
		assert.True(t, f.sink.places[0].closed)
		assert.True(t, f.sink.places[1].closed)
		assert.False(t, f.sink.places[2].closed, "it was not opened")
	})
}
