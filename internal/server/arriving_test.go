package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/slots"
)

// feed is version 1, of one shard of data and another of one byte, that arrives at a
// server as a test has it arrive.
type feed struct {
	site

	board   *relay.Board
	version *relay.Version
	data    []byte
	file    *os.File // of the first shard
}

const feedTier = 3

func newFeed(t *testing.T, size int) *feed {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	name := filepath.Join(t.TempDir(), "shard")
	file, err := os.Create(name)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, file.Close()) })
	f := &feed{board: relay.NewBoard(), data: data, file: file}
	m := shard.Manifest{
		Size: int64(size + 1), ShardSize: int64(size), Digest: sha256.Sum256(append(bytes.Clone(data), 'x')),
		Shards: []shard.Digest{sha256.Sum256(data), sha256.Sum256([]byte("x"))},
	}
	e := distfile.Entry{Version: 1, Digest: m.Digest}
	f.version = f.board.Begin(e, m, feedTier, func(int) (relay.File, error) { return os.Open(name) })
	f.board.List(e)
	srv := httptest.NewServer(server.NewHandler(server.Options{
		Catalog: catalog.New(open(t, t.TempDir()), f.board), Logger: slog.New(slog.DiscardHandler),
	}))
	t.Cleanup(srv.Close)
	f.site = site{srv.URL, srv.Client()}
	return f
}

// write has the bytes of the first shard arrive from one offset to another.
func (f *feed) write(t *testing.T, from, to int) {
	t.Helper()
	_, err := f.file.WriteAt(f.data[from:to], int64(from))
	require.NoError(t, err)
	f.version.Shard(1).Wrote(disk.Range{From: int64(from), To: int64(to)})
}

// open asks for the first shard and returns the answer when it begins.
func (f *feed) open(t *testing.T, fields ...string) begun {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"/v1/shard_001.bin", nil)
	require.NoError(t, err)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := f.client.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return begun{resp}
}

// begun is an answer of which more may come.
type begun struct{ *http.Response }

// reads says that the next bytes of an answer are those of the first shard from one
// offset to another.
func (f *feed) reads(t *testing.T, resp begun, from, to int) {
	t.Helper()
	got := make([]byte, to-from)
	_, err := io.ReadFull(resp.Body, got)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(f.data[from:to], got), "other bytes than %d to %d", from, to)
}

const feedSize = 300_000

func TestShardIsSentWhileItArrives(t *testing.T) {
	f := newFeed(t, feedSize)
	f.write(t, 0, 1000)
	resp := f.open(t)
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.EqualValues(t, feedSize, resp.ContentLength)
	assert.Equal(t, fmt.Sprintf(`"%x"`, sha256.Sum256(f.data)), resp.Header.Get("ETag"))
	assert.Equal(t, fmt.Sprint(feedTier), resp.Header.Get("Shardcast-Tier"))
	f.reads(t, resp, 0, 1000)
	f.write(t, 1000, 5000)
	f.reads(t, resp, 1000, 5000)
	f.write(t, 200_000, feedSize) // out of order
	f.write(t, 5000, 200_000)
	f.reads(t, resp, 5000, feedSize-relay.HeldBack)
	f.version.Shard(1).Verify()
	f.reads(t, resp, feedSize-relay.HeldBack, feedSize)
	_, err := resp.Body.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
}

func TestARangeIsSentFromHeldBytes(t *testing.T) {
	f := newFeed(t, feedSize)
	f.write(t, 100_000, 150_000)
	resp := f.open(t, "Range", "bytes=120000-139999")
	assert.Equal(t, http.StatusPartialContent, resp.StatusCode)
	assert.Equal(t, fmt.Sprintf("bytes 120000-139999/%d", feedSize), resp.Header.Get("Content-Range"))
	f.reads(t, resp, 120_000, 140_000)
	_, err := resp.Body.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)

	resp = f.open(t, "Range", "bytes=149000-")
	f.reads(t, resp, 149_000, 150_000)
	f.write(t, 150_000, feedSize)
	f.version.Shard(1).Verify()
	f.reads(t, resp, 150_000, feedSize)
}

// Under the race detector this fails where several ranges are sent while they arrive.
func TestSeveralRangesOfAnArrivingShardAreIgnored(t *testing.T) {
	f := newFeed(t, feedSize)
	f.write(t, 0, 1000)
	resp := f.open(t, "Range", "bytes=0-100000,100001-200000")
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.EqualValues(t, feedSize, resp.ContentLength)
	f.reads(t, resp, 0, 1000)
	for at := 1000; at < 200_000; at += 1000 {
		f.write(t, at, at+1000)
	}
	f.reads(t, resp, 1000, 200_000)
	f.write(t, 200_000, feedSize)
	f.version.Shard(1).Verify()
	f.reads(t, resp, 200_000, feedSize)
}

func TestReadersOfAWrongShardAreBrokenOff(t *testing.T) {
	for name, end := range map[string]func(f *feed){
		"wrong":    func(f *feed) { f.version.Shard(1).Forget() },
		"no feed":  func(f *feed) { f.version.End() },
		"replaced": func(f *feed) { f.board.Begin(f.version.Entry, f.version.Manifest, 1, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, feedSize)
			f.write(t, 0, feedSize)
			resp := f.open(t)
			f.reads(t, resp, 0, feedSize-relay.HeldBack)
			end(f)
			n, err := io.Copy(io.Discard, resp.Body)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "a clean end")
			assert.Zero(t, n, "bytes that were held back")
		})
	}
}

// What needs no bytes is answered before any have come.
func TestAnswersWithoutBytesDoNotWait(t *testing.T) {
	f := newFeed(t, feedSize)
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(f.data))
	head := f.ask(t, http.MethodHead, "/v1/shard_001.bin")
	assert.Equal(t, http.StatusOK, head.status)
	assert.Equal(t, fmt.Sprint(feedSize), head.header.Get("Content-Length"))
	assert.Equal(t, etag, head.header.Get("ETag"))
	assert.Equal(t, http.StatusNotModified, f.get(t, "/v1/shard_001.bin", "If-None-Match", etag).status)
	assert.Equal(t, http.StatusPreconditionFailed, f.get(t, "/v1/shard_001.bin", "If-Match", `"other"`).status)
	beyond := f.get(t, "/v1/shard_001.bin", "Range", fmt.Sprintf("bytes=%d-", feedSize))
	assert.Equal(t, http.StatusRequestedRangeNotSatisfiable, beyond.status)
	assert.Equal(t, http.StatusNotFound, f.get(t, "/v1/shard_003.bin").status)
	assert.Empty(t, f.version.Wanted(), "no reader has waited for bytes")
}

func TestAShardThatNoFetchHasBegunIsWanted(t *testing.T) {
	f := newFeed(t, feedSize)
	var group errgroup.Group
	for range 3 {
		group.Go(func() error {
			resp, err := f.client.Get(f.url + "/v1/shard_001.bin")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && !bytes.Equal(f.data, body) {
				err = errors.New("other bytes")
			}
			return err
		})
	}
	assert.Equal(t, 1, <-f.version.Wanted())
	f.write(t, 0, feedSize)
	f.version.Shard(1).Verify()
	require.NoError(t, group.Wait())
	assert.Empty(t, f.version.Wanted())
}

func TestANodeNoFartherFromTheOriginWaitsForTheWholeShard(t *testing.T) {
	f := newFeed(t, feedSize)
	f.write(t, 0, 1000)
	for _, tier := range []string{"1", fmt.Sprint(feedTier)} {
		a := f.get(t, "/v1/shard_001.bin", "Shardcast-Tier", tier)
		assert.Equal(t, http.StatusServiceUnavailable, a.status, tier)
		assert.Equal(t, "2", a.header.Get("Retry-After"))
		assert.Empty(t, a.header.Get("Shardcast-Tier"))
	}
	assert.Equal(t, http.StatusOK, f.open(t, "Shardcast-Tier", fmt.Sprint(feedTier+1)).StatusCode)
	f.write(t, 1000, feedSize)
	f.version.Shard(1).Verify()
	assert.Equal(t, http.StatusOK, f.open(t, "Shardcast-Tier", "1").StatusCode)
}

func TestAVerifiedShardOfAVersionThatIsArriving(t *testing.T) {
	f := newFeed(t, feedSize)
	f.write(t, 0, feedSize)
	f.version.Shard(1).Verify()
	a := f.get(t, "/v1/shard_001.bin")
	assert.Equal(t, http.StatusOK, a.status)
	assert.True(t, bytes.Equal(f.data, []byte(a.body)))
	assert.Empty(t, a.header.Get("Shardcast-Tier"), "it is not known to be right")
	assert.Equal(t, fmt.Sprintf(`"%x"`, sha256.Sum256(f.data)), a.header.Get("ETag"))
}

func TestTheManifestOfAVersionThatIsArriving(t *testing.T) {
	f := newFeed(t, 10)
	a := f.get(t, "/v1/manifest.json")
	assert.Equal(t, http.StatusOK, a.status)
	want, err := f.version.Manifest.Encode()
	require.NoError(t, err)
	assert.Equal(t, string(want), a.body)
	assert.Equal(t, fmt.Sprint(feedTier), a.header.Get("Shardcast-Tier"))
	assert.Equal(t, http.StatusNotModified, f.get(t, "/v1/manifest.json", "If-None-Match", a.header.Get("ETag")).status)
}

// What is on offer and not to be had is no reason to think that it was retired.
func TestAVersionWithoutAFetchIsNotMissing(t *testing.T) {
	f := newFeed(t, 10)
	f.version.End()
	for _, path := range []string{"/v1/manifest.json", "/v1/shard_001.bin"} {
		a := f.get(t, path)
		assert.Equal(t, http.StatusServiceUnavailable, a.status, path)
		assert.Equal(t, "2", a.header.Get("Retry-After"), path)
	}
	f.board.Unlist(1)
	for _, path := range []string{"/v1/manifest.json", "/v1/shard_001.bin"} {
		assert.Equal(t, http.StatusNotFound, f.get(t, path).status, path)
	}
}

// A version that comes back with other bytes is not served from what was retired.
func TestAReplacedVersionIsNotServedOld(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, "old bytes")
	claim(t, st)
	retire(t, st, 1)
	board := relay.NewBoard()
	srv := httptest.NewServer(server.NewHandler(server.Options{
		Catalog: catalog.New(st, board),
		Logger:  slog.New(slog.DiscardHandler),
	}))
	t.Cleanup(srv.Close)
	s := site{srv.URL, srv.Client()}
	assert.Equal(t, http.StatusOK, s.get(t, "/v1/shard_001.bin").status, "it may still be read")
	board.List(distfile.Entry{Version: 1, Digest: sha256.Sum256([]byte("new bytes"))})
	assert.Equal(t, http.StatusServiceUnavailable, s.get(t, "/v1/shard_001.bin").status)
}

func TestAReaderThatLeavesDisturbsNoOther(t *testing.T) {
	f := newFeed(t, feedSize)
	f.write(t, 0, 1000)
	leaves, stays := f.open(t), f.open(t)
	f.reads(t, leaves, 0, 500)
	require.NoError(t, leaves.Body.Close())
	f.write(t, 1000, feedSize)
	f.version.Shard(1).Verify()
	f.reads(t, stays, 0, feedSize)
}

func TestARateHoldsForArrivingShards(t *testing.T) {
	f := newFeed(t, feedSize)
	const rate = 1 << 20
	srv := httptest.NewServer(server.NewHandler(server.Options{
		Catalog: catalog.New(open(t, t.TempDir()), f.board), Limits: slots.Limits{Rate: rate},
		Logger: slog.New(slog.DiscardHandler),
	}))
	t.Cleanup(srv.Close)
	f.url = srv.URL
	f.write(t, 0, 1)
	resp := f.open(t)
	start := time.Now()
	for at := 1; at < feedSize; at += 1000 { // in small pieces, which take no more from the bucket than they are
		f.write(t, at, min(at+1000, feedSize))
	}
	f.version.Shard(1).Verify()
	f.reads(t, resp, 0, feedSize)
	// All but what the bucket holds has to wait for its turn; that it takes much
	// longer than that would be a timed assertion.
	assert.Greater(t, time.Since(start), time.Duration((feedSize-rate/20-32<<10)*int64(time.Second)/rate))
}

// What is not there when the answer is to begin is refused, and can be asked again.
func TestAShardThatDoesNotComeIsRefused(t *testing.T) {
	f := newFeed(t, feedSize)
	go func() {
		<-f.version.Wanted()
		f.version.Shard(1).Forget()
	}()
	a := f.get(t, "/v1/shard_001.bin", "Range", "bytes=5-")
	assert.Equal(t, http.StatusServiceUnavailable, a.status)
	assert.Equal(t, "2", a.header.Get("Retry-After"))
	assert.Empty(t, a.header.Get("Content-Range"))
	assert.Empty(t, a.header.Get("ETag"))
	assert.Contains(t, a.body, "has not arrived yet")
}

func TestAShardThatIsLateIsRefused(t *testing.T) {
	f := newFeed(t, feedSize)
	f.write(t, 0, 10)
	a := f.get(t, "/v1/shard_001.bin", "Range", "bytes=10-", "Prefer", "wait=0")
	assert.Equal(t, http.StatusServiceUnavailable, a.status)
	resp := f.open(t, "Prefer", "wait=0")
	f.reads(t, resp, 0, 10)
	_, err := resp.Body.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
