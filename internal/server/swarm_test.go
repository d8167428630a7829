package server_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/shard"
)

// having is a server's list of its shards.
type having struct{ *bufio.Scanner }

// have asks what there is of version 1, whose file has the digest.
func (s site) have(t *testing.T, digest shard.Digest) having {
	t.Helper()
	return s.haveOf(t, "/v1", digest)
}

// haveOf asks what there is of the stream of that digest in a directory.
func (s site) haveOf(t *testing.T, directory string, digest shard.Digest) having {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet,
		fmt.Sprintf("%s%s/have?digest=%s", s.url, directory, digest), http.NoBody)
	require.NoError(t, err)
	resp, err := s.client.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return having{bufio.NewScanner(resp.Body)}
}

// next returns the next line that says something.
func (h having) next(t *testing.T) string {
	t.Helper()
	for h.Scan() {
		if h.Text() != "" {
			return h.Text()
		}
	}
	require.NoError(t, h.Err())
	require.FailNow(t, "no more lines come")
	return ""
}

func asked(how string) []string { return []string{"Shardcast-Swarm", how} }

func TestHeldShardsAreListed(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	m := publish(t, st, 1, text)
	s := swarmed(t, st, nil)
	have := s.have(t, m.Digest)
	assert.Equal(t, "+1-3", have.next(t))
	assert.Equal(t, http.StatusOK, s.get(t, "/v1/shard_003.bin", asked("peer")...).status)
	assert.Equal(t, http.StatusOK, s.get(t, "/v1/shard_001.bin").status, "by a client that is in no swarm")
	assert.Equal(t, http.StatusOK, s.get(t, "/v1/shard_002.bin", asked("upstream")...).status)
	assert.Equal(t, "*2", have.next(t))
	assert.Equal(t, "+1 *2 +3", s.have(t, m.Digest).next(t))
	retire(t, st, 1)
	assert.False(t, have.Scan() && have.Text() != "", "it is over")
}

func TestOnlyASwarmGetsTheListOfShards(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	m := publish(t, st, 1, text)
	path := "/v1/have?digest=" + m.Digest.String()
	assert.Equal(t, http.StatusNotFound, newSite(t, st).get(t, path).status)
	s := swarmed(t, st, nil)
	assert.Equal(t, http.StatusOK, s.ask(t, http.MethodHead, path).status)
	for _, path := range []string{
		"/v1/have", "/v1/have?digest=", "/v1/have?digest=x", "/v1/have?digest=" + m.Shards[0].String(),
		"/v2/have?digest=" + m.Digest.String(),
	} {
		assert.Equal(t, http.StatusNotFound, s.get(t, path).status, path)
	}
}

func TestAFreshShardIsSentOnce(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	s := swarmed(t, st, nil)
	assert.Equal(t, "0123456789", s.get(t, shardPath, asked("fresh")...).body)
	assert.Equal(t, http.StatusConflict, s.get(t, shardPath, asked("fresh")...).status)
	assert.Equal(t, "0123456789", s.get(t, shardPath, asked("upstream")...).body)
	assert.Equal(t, http.StatusConflict, s.get(t, shardPath, asked("fresh")...).status)
	assert.Equal(t, http.StatusOK, s.get(t, "/v1/shard_002.bin", asked("fresh")...).status)
	assert.Equal(t, http.StatusNotFound, s.get(t, "/v1/shard_004.bin", asked("fresh")...).status)

	retire(t, st, 1)
	publish(t, st, 1, strings.ToUpper(text))
	assert.Equal(t, http.StatusOK, s.get(t, shardPath, asked("fresh")...).status, "another file has that number")
}

func TestASwarmSwapsTheShardsOfADelta(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	publishDelta(t, st, 2, 1)
	s := swarmed(t, st, nil)
	of := shard.Digest(sha256.Sum256([]byte("changes!")))
	have := s.haveOf(t, "/v2/from_v1", of)
	assert.Equal(t, "+1-2", have.next(t))
	assert.Equal(t, "changes", s.get(t, "/v2/from_v1/shard_001.bin", asked("fresh")...).body)
	assert.Equal(t, http.StatusConflict, s.get(t, "/v2/from_v1/shard_001.bin", asked("fresh")...).status)
	assert.Equal(t, "*1", have.next(t))
	assert.Equal(t, http.StatusOK, s.get(t, "/v2/from_v1/shard_001.bin", asked("peer")...).status)
	assert.Equal(t, http.StatusOK, s.get(t, "/v2/shard_001.bin", asked("fresh")...).status, "it is the version's own")
	for _, path := range []string{
		"/v2/from_v1/have", "/v2/from_v1/have?digest=" + shard.Digest{1}.String(),
		"/v2/from_v3/have?digest=" + of.String(), "/v1/from_v2/have?digest=" + of.String(),
		"/py03/v2/from_v1/have?digest=" + of.String(),
	} {
		assert.Equal(t, http.StatusNotFound, s.get(t, path).status, path)
	}
	assert.Equal(t, http.StatusNotFound, newSite(t, st).get(t, "/v2/from_v1/have?digest="+of.String()).status,
		"without a swarm")
}

func TestPeersGetTheShardsOfAnArrivingDelta(t *testing.T) {
	t.Parallel()
	f := newFeed(t, feedSize)
	f.site = newSiteAs(t, server.Options{Catalog: catalog.New(nil, f.board)})
	m := f.version.Manifest
	path := "/v1/from_v7/have?digest=" + m.Digest.String()
	assert.Equal(t, http.StatusNotFound, f.get(t, path).status)
	delta := relay.NewBoard().Begin(f.version.Entry, m, feedTier, func(int) (relay.File, error) {
		return os.Open(f.file.Name())
	})
	f.version.BringDelta(7, delta)
	have := f.haveOf(t, "/v1/from_v7", m.Digest)
	require.True(t, have.Scan())
	assert.Empty(t, have.Text(), "there is nothing for them")
	f.write(t, 0, feedSize)
	delta.Shard(1).From(true)
	assert.Equal(t, "~1", have.next(t))
	delta.Shard(1).Verify()
	assert.Equal(t, "+1", have.next(t))
	assert.Equal(t, string(f.data), f.get(t, "/v1/from_v7/shard_001.bin", asked("peer")...).body)
	assert.Equal(t, http.StatusNotFound, f.get(t, "/v1/from_v7/manifest.json").status, "that is an upstream's")
	assert.Equal(t, http.StatusNotFound, f.get(t, shardPath, asked("peer")...).status, "of the version")
	f.version.NoDelta()
	assert.False(t, have.Scan() && have.Text() != "", "it is over")
	assert.Equal(t, http.StatusNotFound, f.get(t, path).status)
}

func TestNodesOfASwarmHaveEightSlotsAndOtherClientsNoBound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large(t, dir, 1, largeSize)
	st := open(t, dir)
	publish(t, st, 2, text)
	s := swarmed(t, st, nil)
	require.Equal(t, http.StatusOK, s.get(t, "/v2/shard_001.bin", asked("fresh")...).status)
	var leave []func()
	for range 8 {
		leave = append(leave, s.held(t, asked("peer")...))
	}
	// first asks for the first byte.
	first := func(how string) answer {
		return s.get(t, shardPath, "Range", "bytes=0-0", "Shardcast-Swarm", how)
	}
	// Of three more, two may wait.
	sentAway := make(chan struct{}, 3)
	for range 3 {
		go func() {
			got := first("upstream")
			assert.Equal(t, http.StatusServiceUnavailable, got.status)
			assert.Equal(t, "0", got.header.Get("Retry-After"))
			sentAway <- struct{}{}
		}()
	}
	<-sentAway
	assert.Equal(t, http.StatusPartialContent, s.get(t, shardPath, "Range", "bytes=0-0").status, "a client in no swarm")
	assert.Equal(t, http.StatusPartialContent, first("x").status, "nor this one")
	for range 2 {
		<-sentAway
	}

	assert.Equal(t, http.StatusConflict, s.get(t, "/v2/shard_001.bin", asked("fresh")...).status, "that needs no slot")
	waited := make(chan int)
	go func() {
		waited <- first("peer").status
	}()
	leave[3]()
	assert.Equal(t, http.StatusPartialContent, <-waited, "one has left")
}

func TestPeersGetArrivingShardsThatComeFromAHolder(t *testing.T) {
	t.Parallel()
	f := newFeed(t, feedSize)
	f.site = newSiteAs(t, server.Options{Catalog: catalog.New(open(t, t.TempDir()), f.board), Members: members(t)})
	f.write(t, 0, 1000)
	have := f.have(t, f.version.Entry.Digest)
	require.True(t, have.Scan())
	assert.Empty(t, have.Text(), "there is nothing for them")
	assert.Equal(t, http.StatusNotFound, f.get(t, shardPath, asked("peer")...).status, "its sender is unknown")

	f.version.Shard(1).From(true)
	assert.Equal(t, "~1", have.next(t))
	resp := f.open(t, asked("peer")...)
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Equal(t, fmt.Sprint(feedTier), resp.Header.Get("Shardcast-Tier"), "it says that it arrives")
	f.reads(t, resp, 0, 1000)

	f.version.Shard(1).From(false)
	assert.Equal(t, "-1", have.next(t))
	assert.Equal(t, http.StatusNotFound, f.get(t, shardPath, asked("peer")...).status)
	f.write(t, 1000, feedSize)
	f.version.Shard(1).Verify()
	f.reads(t, resp, 1000, feedSize)
	assert.Equal(t, "+1", have.next(t))
	assert.Equal(t, http.StatusOK, f.get(t, shardPath, asked("peer")...).status)
}

func TestABoardAloneServesItsShardsToASwarmAndNothingElse(t *testing.T) {
	t.Parallel()
	f := newFeed(t, feedSize)
	f.site = newSiteAs(t, server.Options{Catalog: catalog.New(nil, f.board)})
	f.write(t, 0, feedSize)
	f.version.Shard(1).Verify()
	assert.Equal(t, "+1", f.have(t, f.version.Entry.Digest).next(t))
	assert.Equal(t, http.StatusOK, f.get(t, shardPath, asked("peer")...).status)
	assert.Equal(t, http.StatusOK, f.get(t, "/healthz").status)
	for _, path := range []string{
		"/", "/distribution.txt", "/v1/manifest.json", "/v1/SHA256SUMS", "/v1/shard_003.bin", "/v2/shard_001.bin",
		"/v2/have?digest=" + f.version.Entry.Digest.String(), "/readyz", "/metrics", "/py03/distribution.txt",
		"/py01/data1.bin",
	} {
		assert.Equal(t, http.StatusNotFound, f.get(t, path).status, path)
	}
}

func TestAShardIsFreshUntilAllOfItWasSent(t *testing.T) {
	t.Parallel()
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	s := swarmed(t, st, nil)
	for range 3 {
		got := s.get(t, shardPath, append(asked("fresh"), "Range", "bytes=0-3")...)
		assert.Equal(t, http.StatusPartialContent, got.status, "the last byte was never sent")
	}
	assert.Equal(t, http.StatusOK, s.get(t, shardPath, asked("fresh")...).status)
	assert.Equal(t, http.StatusConflict, s.get(t, shardPath, asked("fresh")...).status)
}

func TestServeBoardBreaksOffWhenItEnds(t *testing.T) {
	t.Parallel()
	f := newFeed(t, feedSize)
	f.version.Shard(1).From(true)
	f.write(t, 0, 1000)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- server.ServeBoard(ctx, ln,
			server.Options{Catalog: catalog.New(nil, f.board), Logger: slog.New(slog.DiscardHandler)})
	}()
	f.site = site{"http://" + ln.Addr().String(), http.DefaultClient}
	resp := f.open(t, asked("peer")...)
	f.reads(t, resp, 0, 1000)
	cancel()
	require.NoError(t, <-ended)
	_, err = resp.Body.Read(make([]byte, 1))
	assert.ErrorContains(t, err, "unexpected EOF")
}

func TestSpareShardsAreSentOnceSlotsHaveSufficedForASecond(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large(t, dir, 1, largeSize)
	s := swarmed(t, open(t, dir), nil)
	ask := func(how string) answer {
		return s.get(t, shardPath, "Range", "bytes=0-0", "Shardcast-Swarm", how)
	}
	assert.Equal(t, http.StatusPartialContent, ask("spare").status)
	var leave []func()
	for range 7 {
		leave = append(leave, s.held(t, asked("peer")...))
	}
	assert.Equal(t, http.StatusPartialContent, ask("spare").status, "it may have the last one")
	leave = append(leave, s.held(t, asked("upstream")...))
	got := ask("spare")
	assert.Equal(t, http.StatusServiceUnavailable, got.status, "all are taken")
	assert.Equal(t, "0", got.header.Get("Retry-After"))
	leave[0]()
	require.Eventually(t, func() bool { return ask("spare").status == http.StatusPartialContent }, patience,
		time.Millisecond, "no node has asked in vain")

	leave[0] = s.held(t, asked("peer")...)
	began := time.Now()
	assert.Equal(t, http.StatusServiceUnavailable, ask("fresh").status, "after two seconds")
	leave[1]()
	require.Eventually(t, func() bool { return ask("spare").status == http.StatusPartialContent }, patience,
		10*time.Millisecond)
	assert.GreaterOrEqual(t, time.Since(began), 3*time.Second)
}
