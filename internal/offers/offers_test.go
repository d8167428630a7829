package offers_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/offers"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/trust"
	"github.com/shardcast/shardcast/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipes is a listener of connections that are no sockets, so that tests can have a clock of
// their own.
type pipes struct {
	conns chan net.Conn
	over  chan struct{} // closed when none is accepted any more
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// logbook is a log.
type logbook struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *logbook) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// sites are servers by their hosts, and the offers of them.
type sites struct {
	*offers.Offers

	roster  *roster.Roster
	servers []*remote.Server

	mu    sync.Mutex                   // guards what follows
	files map[string]map[string][]byte // by host and path
	tier  map[string]string            // of a host that is a relay
	asked []string                     // hosts and paths

	log       logbook
	named     bool // answers name the release
	unchanged int  // answers that a release is the known one
}

// newSites returns the offers of servers, of which the first that may be asked is.
func newSites(t *testing.T, hosts ...string) *sites {
	t.Helper()
	return newSitesBy(t, nil, hosts...)
}

// newSitesBy is newSites with a keeper of releases.
func newSitesBy(t *testing.T, keeper *trust.Keeper, hosts ...string) *sites {
	t.Helper()
	s := &sites{files: make(map[string]map[string][]byte), tier: make(map[string]string)}
	p := pipes{conns: make(chan net.Conn), over: make(chan struct{})}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Hour}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(p)
	}()
	dial := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		select {
		case p.conns <- theirs:
			return ours, nil
		case <-p.over: // a connection that was opened ahead comes late
			return nil, net.ErrClosed
		}
	}
	client := remote.New(remote.Options{Timeout: time.Minute, Dial: dial, Connections: 10})
	logger := slog.New(slog.NewTextHandler(&s.log, nil))
	opts := roster.Options{
		Attempts: 2, Waits: roster.Waits{FastAttempts: 2, FastWait: time.Second, SlowWait: time.Second},
		Draw: func() float64 { return 0 }, Logger: logger,
	}
	for _, host := range hosts {
		opts.Upstreams = append(opts.Upstreams, &url.URL{Scheme: "http", Host: host})
		s.files[host] = make(map[string][]byte)
	}
	s.roster = roster.New(opts)
	s.servers = s.roster.Servers()
	s.Offers = offers.New(offers.Options{
		Releases: true, Keeper: keeper, Timeout: time.Minute, Attempts: 2,
		Remote: client, Roster: s.roster, Logger: opts.Logger,
	})
	t.Cleanup(func() {
		s.Close()
		s.roster.Close()
		client.Close()
		close(p.over)
		<-served
		assert.NoError(t, server.Close())
	})
	return s
}

func (s *sites) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Host+r.URL.Path)
	data, ok := s.files[r.Host][r.URL.Path]
	tier := s.tier[r.Host]
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	if tier != "" {
		w.Header().Set(wire.TierHeader, tier)
	}
	s.release(w, r)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// put has a host answer with a text, or with 404 for an empty one.
func (s *sites) put(host, path, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[host][path] = []byte(text)
	if text == "" {
		delete(s.files[host], path)
	}
}

// asks returns how often a host was asked for a path.
func (s *sites) asks(at string) (times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, asked := range s.asked {
		if asked == at {
			times++
		}
	}
	return times
}

// list has hosts list v1 by a digest, and asks them.
func (s *sites) list(t *testing.T, d shard.Digest, hosts ...string) distfile.Entry {
	t.Helper()
	for _, host := range hosts {
		s.put(host, "/distribution.txt", "v1: "+d.String()+"\n")
	}
	require.NoError(t, s.Refresh(t.Context(), offers.All))
	return distfile.Entry{Version: 1, Digest: d}
}

// manifest has a host state a manifest of data with so many bytes a shard. Salt makes the
// digests of shards others.
func (s *sites) manifest(t *testing.T, host string, data []byte, shardSize int, salt byte) shard.Manifest {
	t.Helper()
	m := shard.Manifest{
		Name: "weights.bin", Size: int64(len(data)), ShardSize: int64(shardSize), Digest: sha256.Sum256(data),
	}
	for from := 0; from < len(data); from += shardSize {
		m.Shards = append(m.Shards, sha256.Sum256(append([]byte{salt}, data[from:min(len(data), from+shardSize)]...)))
	}
	text, err := m.Encode()
	require.NoError(t, err)
	s.put(host, "/v1/manifest.json", string(text))
	return m
}

// bubble runs a test with servers on a clock of its own.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

var data = []byte("0123456789")

func TestAWantIsOfTheServersThatListItAndWereNotRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a", "b", "c")
		e := s.list(t, sha256.Sum256(data), "a", "b")
		s.list(t, shard.Digest{1}, "c")
		w := s.Want(e)
		may := func(w *offers.Want) (may []bool) {
			for _, server := range s.servers {
				may = append(may, w.May(server))
			}
			return may
		}
		assert.Equal(t, []bool{true, true, false}, may(w))
		assert.Equal(t, []bool{false, true, false}, may(s.Only(s.servers[1], e)))
		wrong := roster.Wrong(errors.New("wrong bytes"))
		w.Refuse(t.Context(), s.servers[0], wrong)
		assert.Equal(t, []bool{false, true, false}, may(w))
		require.ErrorIs(t, w.Refused(s.servers[0]), wrong)
		require.ErrorIs(t, w.Failed(nil), shard.ErrIntegrity)
		assert.Less(t, s.roster.Standings()[0].Success, 0.75)
		assert.Equal(t, []bool{true, true, false}, may(s.Want(e)), "another fetch asks it again")

		// It is no fault of a server that the version was retired or replaced there.
		s.put("b", "/distribution.txt", "v2: "+e.Digest.String()+"\n")
		w.Refuse(t.Context(), s.servers[1], wrong)
		require.NoError(t, w.Refused(s.servers[1]))
		assert.Equal(t, []bool{false, false, false}, may(w))
		assert.InDelta(t, 1, s.roster.Standings()[1].Success, 0)

		peer := remote.NewServer(&url.URL{Scheme: "http", Host: "peer"})
		assert.False(t, w.Gone(t.Context(), peer), "peers list no versions")
		w.Refuse(t.Context(), peer, wrong)
		require.ErrorIs(t, w.Refused(peer), wrong)
		assert.Zero(t, s.asks("peer/distribution.txt"))
	})
}

func TestAServerWithoutADeltaMayHaveItsVersionAndAPeerWithAWrongOneMayNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a", "b")
		version := s.Want(s.list(t, sha256.Sum256(data), "a", "b"))
		w := version.Delta(shard.Delta{Base: 1})
		may := w.Job(func(*remote.Server) error { return nil }).May
		wrong := roster.Wrong(errors.New("wrong bytes"))
		w.Refuse(t.Context(), s.servers[0], wrong)
		assert.False(t, may(s.servers[0]))
		assert.True(t, may(s.servers[1]))
		require.ErrorIs(t, w.Refused(s.servers[0]), wrong)
		require.NoError(t, version.Refused(s.servers[0]))

		peer := remote.NewServer(&url.URL{Scheme: "http", Host: "peer"})
		w.Refuse(t.Context(), peer, wrong)
		require.ErrorIs(t, w.Refused(peer), wrong)
		require.ErrorIs(t, version.Refused(peer), wrong)
		version.Refuse(t.Context(), s.servers[1], wrong)
		require.ErrorIs(t, w.Refused(s.servers[1]), wrong, "of the version")
	})
}

func TestAVersionThatNoServerListsAnyMoreIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a")
		w := s.Want(s.list(t, sha256.Sum256(data), "a"))
		s.put("a", "/distribution.txt", "v2: "+w.Entry.Digest.String()+"\n")
		require.NoError(t, s.Refresh(t.Context(), offers.All))
		require.ErrorIs(t, w.Failed(nil), offers.ErrNoVersion)
		peer := remote.NewServer(&url.URL{Scheme: "http", Host: "peer"})
		w.Refuse(t.Context(), peer, roster.Wrong(errors.New("wrong bytes")))
		require.ErrorIs(t, w.Failed(nil), offers.ErrNoVersion, "that a peer was refused is no reason")
	})
}

func TestAManifestThatWasDistrustedIsNotChosenAgain(t *testing.T) {
	bad := errors.New("the bytes do not fit")
	bubble(t, "another server has another one", func(t *testing.T) {
		s := newSites(t, "a", "b", "c")
		e := s.list(t, sha256.Sum256(data), "a", "b", "c")
		s.manifest(t, "a", data, 5, 1)
		s.manifest(t, "b", data, 5, 1) // the same
		right := s.manifest(t, "c", data, 5, 0)
		c := s.Choose(e)
		m, err := c.Next(t.Context())
		require.NoError(t, err)
		assert.Equal(t, s.servers[0], m.Source)
		assert.Equal(t, 1, m.Tier)
		c.Distrust(m, bad)
		require.ErrorIs(t, c.Distrusted(s.servers[0]), bad)
		m, err = c.Next(t.Context())
		require.NoError(t, err)
		assert.Equal(t, s.servers[2], m.Source)
		assert.Equal(t, right.Shards, m.Stated.Shards)
		require.ErrorContains(t, c.Distrusted(s.servers[1]), "its manifest states the same")
		c.Distrust(m, bad)
		_, err = c.Next(t.Context())
		require.ErrorIs(t, err, bad)
	})
	bubble(t, "a relay gets another one itself", func(t *testing.T) {
		s := newSites(t, "a")
		s.tier["a"] = "2"
		e := s.list(t, sha256.Sum256(data), "a")
		s.manifest(t, "a", data, 5, 1)
		c := s.Choose(e)
		m, err := c.Next(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 3, m.Tier)
		c.Distrust(m, bad)
		require.NoError(t, c.Distrusted(s.servers[0]))
		wrong := m.Stated
		time.AfterFunc(5*time.Second, func() { s.manifest(t, "a", data, 5, 0) })
		m, err = c.Next(t.Context())
		require.NoError(t, err)
		assert.NotEqual(t, wrong.Shards, m.Stated.Shards)
	})
	bubble(t, "the relay retires the version", func(t *testing.T) {
		s := newSites(t, "a")
		s.tier["a"] = "1"
		e := s.list(t, sha256.Sum256(data), "a")
		s.manifest(t, "a", data, 5, 1)
		c := s.Choose(e)
		m, err := c.Next(t.Context())
		require.NoError(t, err)
		c.Distrust(m, bad)
		s.put("a", "/distribution.txt", "v2: "+e.Digest.String()+"\n")
		require.NoError(t, s.Refresh(t.Context(), offers.All))
		_, err = c.Next(t.Context())
		require.ErrorIs(t, err, bad, "that is why it is not listed any more")
	})
}

func TestAManifestThatStatesBothDigestsIsChosen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a", "d", "b", "c")
		plain := s.list(t, shard.Digest{1}, "b", "c")
		other := s.list(t, sha256.Sum256(data), "a", "d")
		c := s.Choose(plain)
		_, err := c.Next(t.Context())
		require.ErrorIs(t, err, offers.ErrPlain)
		of := s.manifest(t, "a", data, 5, 0)
		c = s.Choose(plain)
		_, err = c.Next(t.Context())
		require.ErrorIs(t, err, offers.ErrPlain, "it may be of another file")
		text, err := of.Encode()
		require.NoError(t, err)
		s.put("d", "/v1/manifest.json", string(text))
		s.put("d", "/v1/BLAKE3", string(shard.BLAKE3Text(plain.Digest)))
		c = s.Choose(plain)
		m, err := c.Next(t.Context())
		require.NoError(t, err)
		assert.Equal(t, s.servers[1], m.Source)
		assert.Equal(t, other, m.Entry)
		c.Distrust(m, errors.New("wrong bytes"))
		_, err = c.Next(t.Context())
		require.ErrorIs(t, err, offers.ErrPlain, "its servers may have the file all the same")
	})
}

func TestAManifestIsAskedForBeforeItsVersionIsKnown(t *testing.T) {
	choose := func(t *testing.T, s *sites, e distfile.Entry) offers.Manifest {
		t.Helper()
		m, err := s.Choose(e).Next(t.Context())
		require.NoError(t, err)
		return m
	}
	bubble(t, "it is used once", func(t *testing.T) {
		s := newSites(t, "a")
		want := s.manifest(t, "a", data, 5, 0)
		s.Expect(1)
		s.Expect(1)
		synctest.Wait()
		assert.Equal(t, 1, s.asks("a/v1/manifest.json"), "before the versions")
		e := s.list(t, sha256.Sum256(data), "a")
		m := choose(t, s, e)
		assert.Equal(t, want.Shards, m.Stated.Shards)
		assert.Equal(t, s.servers[0], m.Source)
		assert.Equal(t, 1, s.asks("a/v1/manifest.json"))
		_ = choose(t, s, e)
		assert.Equal(t, 2, s.asks("a/v1/manifest.json"))
	})
	bubble(t, "a failure is asked again", func(t *testing.T) {
		s := newSites(t, "a")
		s.Expect(1)
		synctest.Wait()
		s.manifest(t, "a", data, 5, 0)
		_ = choose(t, s, s.list(t, sha256.Sum256(data), "a"))
		assert.Equal(t, 2, s.asks("a/v1/manifest.json"))
	})
	bubble(t, "it is of another file", func(t *testing.T) {
		s := newSites(t, "a", "b")
		s.manifest(t, "a", []byte("something else"), 5, 0)
		right := s.manifest(t, "b", data, 5, 0)
		s.Expect(1)
		m := choose(t, s, s.list(t, sha256.Sum256(data), "a", "b"))
		assert.Equal(t, right.Digest, m.Stated.Digest)
		assert.Equal(t, s.servers[1], m.Source)
	})
	bubble(t, "its server is asked first", func(t *testing.T) {
		s := newSites(t, "a", "b")
		s.roster.Delivered(s.servers[1], 1<<30, time.Second) // so that b would be
		for _, host := range []string{"a", "b"} {
			s.manifest(t, host, data, 5, 0)
		}
		s.Expect(1)
		m := choose(t, s, s.list(t, sha256.Sum256(data), "a", "b"))
		assert.Equal(t, s.servers[0], m.Source)
		assert.Zero(t, s.asks("b/v1/manifest.json"))
	})
	bubble(t, "its server lacks the version", func(t *testing.T) {
		s := newSites(t, "a", "b")
		for _, host := range []string{"a", "b"} {
			s.manifest(t, host, data, 5, 0)
		}
		s.Expect(1)
		s.put("a", "/distribution.txt", "v2: "+strings.Repeat("0", 64)+"\n")
		m := choose(t, s, s.list(t, sha256.Sum256(data), "b"))
		assert.Equal(t, s.servers[1], m.Source)
	})
}

func TestAManifestOfAnotherFileIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a")
		e := s.list(t, shard.Digest{1}, "a")
		s.manifest(t, "a", data, 5, 0)
		_, err := s.Manifest(t.Context(), e)
		require.ErrorIs(t, err, shard.ErrIntegrity)
		require.ErrorContains(t, err, "and "+e.Digest.String()+" in the distribution")
		s.put("a", "/v1/manifest.json", "")
		_, err = s.Manifest(t.Context(), e)
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

func TestAVersionIsKnownByBothOfItsDigests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a", "b")
		blake := s.list(t, shard.Digest{2}, "a")
		sha := s.list(t, shard.Digest{1}, "b")
		assert.Equal(t, blake, s.Canonical(blake))
		s.Know(1, shard.Manifest{Digest: sha.Digest, BLAKE3: blake.Digest})
		blake.Count = 7
		canonical := s.Canonical(blake)
		assert.Equal(t, sha.Digest, canonical.Digest)
		assert.Equal(t, 7, canonical.Count)
		assert.Equal(t, []distfile.Entry{sha}, s.Offers.Offers())
		for _, e := range []distfile.Entry{sha, blake} {
			w := s.Want(e)
			assert.True(t, w.May(s.servers[0]))
			assert.True(t, w.May(s.servers[1]))
			assert.True(t, s.Offered(e))
		}
		assert.False(t, s.Offered(distfile.Entry{Version: 2, Digest: sha.Digest}))
	})
}

func TestTheDigestsOfTheNewestVersionsStayKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a")
		of := func(v shard.Version) (sha, blake shard.Digest) {
			return shard.Digest{1, byte(v), byte(v >> 8)}, shard.Digest{2, byte(v), byte(v >> 8)}
		}
		const more = 3
		for v := shard.Version(1); v <= distfile.MaxEntries+more; v++ {
			m := shard.Manifest{}
			m.Digest, m.BLAKE3 = of(v)
			s.Know(v, m)
		}
		for _, v := range []shard.Version{1, more, more + 1, distfile.MaxEntries + more} {
			sha, blake := of(v)
			known := s.Canonical(distfile.Entry{Version: v, Digest: blake}).Digest == sha
			assert.Equal(t, v > more, known, "v%d", v)
		}
	})
}

func TestLayoutsOfPlainServers(t *testing.T) {
	shards := func(s *sites, host string, name func(int) string, sizes ...int) {
		for i, size := range sizes {
			s.put(host, "/v1/"+name(i+1), strings.Repeat("x", size))
		}
	}
	layout := func(size, shardSize int64) [3]int64 {
		return [3]int64{size, shardSize, (size + shardSize - 1) / shardSize}
	}
	for name, tc := range map[string]struct {
		prepare func(s *sites)
		count   int // that the distribution states
		want    [][3]int64
		is      error
	}{
		"one shard":  {func(s *sites) { shards(s, "a", shard.FileName, 7) }, 0, [][3]int64{layout(7, 7)}, nil},
		"two shards": {func(s *sites) { shards(s, "a", shard.FileName, 7, 3) }, 0, [][3]int64{layout(10, 7)}, nil},
		"seven shards": {
			func(s *sites) { shards(s, "a", shard.FileName, 7, 7, 7, 7, 7, 7, 1) }, 0, [][3]int64{layout(43, 7)}, nil,
		},
		"as many as the distribution states": {
			func(s *sites) { shards(s, "a", shard.FileName, 7, 7, 7, 7) }, 3, [][3]int64{layout(21, 7)}, nil,
		},
		"names with five digits": {
			func(s *sites) { shards(s, "a", shard.LongFileName, 7, 7, 3) }, 0, [][3]int64{layout(17, 7)}, nil,
		},
		"most servers come first": {func(s *sites) {
			shards(s, "a", shard.FileName, 7, 7, 3)
			shards(s, "b", shard.FileName, 7, 3)
			shards(s, "c", shard.FileName, 7, 3)
		}, 0, [][3]int64{layout(10, 7), layout(17, 7)}, nil},
		"of as many the largest": {func(s *sites) {
			shards(s, "a", shard.FileName, 7, 3)
			shards(s, "b", shard.FileName, 7, 7, 3)
		}, 0, [][3]int64{layout(17, 7), layout(10, 7)}, nil},
		"a last one that is too large": {
			func(s *sites) { shards(s, "a", shard.FileName, 7, 8) }, 0, nil, shard.ErrIntegrity,
		},
		"no shard": {func(*sites) {}, 0, nil, fs.ErrNotExist},
	} {
		bubble(t, name, func(t *testing.T) {
			s := newSites(t, "a", "b", "c")
			e := s.list(t, sha256.Sum256(data), "a", "b", "c")
			e.Count = tc.count
			tc.prepare(s)
			layouts, err := s.Layouts(t.Context(), e, false)
			if tc.is != nil {
				require.ErrorIs(t, err, tc.is)
				return
			}
			require.NoError(t, err)
			var got [][3]int64
			for _, m := range layouts {
				got = append(got, [3]int64{m.Size, m.ShardSize, int64(len(m.Shards))})
				assert.Equal(t, e.Digest, m.Digest)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestAServerWithNamesOfFiveDigitsIsAskedForThemFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSites(t, "a")
		e := s.list(t, sha256.Sum256(data), "a")
		for number := range 2 {
			s.put("a", "/v1/"+shard.LongFileName(number+1), "x")
		}
		for number := range 2 {
			body, err := s.GetShard(t.Context(), s.servers[0], e, number+1, remote.Request{})
			require.NoError(t, err)
			require.NoError(t, body.Close())
		}
		assert.Equal(t, 1, s.asks("a/v1/"+shard.FileName(1)))
		assert.Zero(t, s.asks("a/v1/"+shard.FileName(2)))
		_, err := s.GetShard(t.Context(), s.servers[0], e, 3, remote.Request{Digest: shard.Digest{1}})
		require.ErrorIs(t, err, fs.ErrNotExist)
		assert.Zero(t, s.asks("a/v1/"+shard.FileName(3)), "a server with digests has one name for it")
	})
}

func TestFailuresMatchTheErrorsOfServersThatAnswered(t *testing.T) {
	down := remote.Matching(errors.New("a: no route"), remote.ErrUnreachable)
	err := offers.Failures([]error{down, fs.ErrNotExist})
	require.EqualError(t, err, "a: no route; file does not exist")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, err, remote.ErrUnreachable)
	require.ErrorIs(t, offers.Failures([]error{down, down}), remote.ErrUnreachable)
	require.EqualError(t, offers.Named(down), "no server reachable: a: no route")
	require.NoError(t, offers.Named(nil))
}

func TestAVersionOfTheSecondUpstreamCountsAfterAMinute(t *testing.T) {
	list := func(versions ...string) (text string) {
		for _, v := range versions {
			text += v + ": " + shard.Digest{1}.String() + "\n"
		}
		return text
	}
	bubble(t, "the first does not list it", func(t *testing.T) {
		s := newSites(t, "a", "b")
		s.put("a", "/distribution.txt", list("v1"))
		s.put("b", "/distribution.txt", list("v1", "v2"))
		assert.Equal(t, []shard.Version{1, 2}, newest(t, s, 59*time.Second, 2*time.Second))
	})
	bubble(t, "the first is down", func(t *testing.T) {
		s := newSites(t, "a", "b")
		s.put("a", "/distribution.txt", list("v1"))
		s.put("b", "/distribution.txt", list("v1"))
		require.NoError(t, s.Refresh(t.Context(), offers.All))
		s.put("a", "/distribution.txt", "")
		s.put("b", "/distribution.txt", list("v1", "v2"))
		assert.Equal(t, []shard.Version{1, 2}, newest(t, s, 59*time.Second, 2*time.Second))
	})
	bubble(t, "the first has never answered", func(t *testing.T) {
		s := newSites(t, "a", "b")
		s.put("b", "/distribution.txt", list("v1", "v2"))
		assert.Equal(t, []shard.Version{2}, newest(t, s, time.Second))
	})
}

// newest follows s, and returns the newest version that counted by its last call of news
// after each of the waits.
func newest(t *testing.T, s *sites, waits ...time.Duration) (all []shard.Version) {
	t.Helper()
	var mu sync.Mutex
	var now shard.Version
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() {
		s.Follow(ctx, time.Second, func() {
			mu.Lock()
			defer mu.Unlock()
			now = s.Count(offers.Taker{}).Newest().Version
		})
	})
	for _, wait := range waits {
		time.Sleep(wait)
		mu.Lock()
		all = append(all, now)
		mu.Unlock()
	}
	return all
}
