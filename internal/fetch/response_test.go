package fetch_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/shard"
)

// wired is a server that answers with bytes as they are, a connection a request.
type wired struct {
	answers map[string]string // by the end of the path
	serving sync.WaitGroup
}

func (w *wired) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	w.serving.Go(func() {
		defer func() { _ = theirs.Close() }()
		req, err := http.ReadRequest(bufio.NewReader(theirs))
		if err != nil {
			return
		}
		for end, answer := range w.answers {
			if strings.HasSuffix(req.URL.Path, end) {
				_, _ = theirs.Write([]byte(answer))
			}
		}
	})
	return ours, nil
}

// FuzzResponse has a version fetched of whose distribution, manifest or shard the answer is
// the input, byte for byte: the file is right, or there is an error.
func FuzzResponse(f *testing.F) {
	const there, most = 400, 1 << 20
	data := content(1, shardSize)
	manifest, err := shard.Manifest{
		Name: "f", Size: shardSize, ShardSize: shardSize, Digest: sha256.Sum256(data),
		Shards: []shard.Digest{sha256.Sum256(data)},
	}.Encode()
	require.NoError(f, err)
	text := func(status, header, body string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\nConnection: close\r\n%s\r\n%s", status, header, body)
	}
	sized := func(body string) string {
		return text("200 OK", fmt.Sprintf("Content-Length: %d\r\n", len(body)), body)
	}
	part := func(from, to int) string {
		header := fmt.Sprintf("Content-Range: bytes %d-%d/%d\r\n", from, to-1, shardSize)
		return text("206 Partial Content", header, string(data[from:to]))
	}
	ends := []string{"/" + distfile.FileName, "/" + shard.ManifestName, ".bin"}
	right := []string{
		sized(fmt.Sprintf("v1: %s\n", shard.Digest(sha256.Sum256(data)))), sized(string(manifest)),
		part(there, shardSize),
	}
	for of, seeds := range [][]string{
		{
			right[0], sized(""), sized("v1: |1\n"), sized(fmt.Sprintf("v1: %s|9\n", shard.EmptyDigest())),
			text("404 No", "", ""),
		},
		{
			right[1], sized("{}"), text("404 Not Found", "", ""),
			text("200 OK", "Content-Type: text/html\r\n", "<html>"),
			text("200 OK", "Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
		},
		{
			right[2], part(0, shardSize), part(there-1, shardSize), part(there+1, shardSize), part(there, there+10),
			sized(string(data)), text("200 OK", "", string(data)+"more"), sized(string(data[:10])),
			text("200 OK", "Content-Encoding: gzip\r\nContent-Length: 0\r\n", ""),
			text("416 No", "Content-Range: bytes */10\r\n", ""), text("302 Found", "Location: http://a/\r\n", ""),
			text("206 Partial Content", "Content-Range: bytes 400-999/*\r\nTransfer-Encoding: chunked\r\n", "f\r\n"),
			"\x15\x03\x01",
		},
	} {
		for _, seed := range seeds {
			f.Add(uint8(of), []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, of uint8, answer []byte) {
		server := &wired{answers: make(map[string]string)}
		for i, end := range ends {
			server.answers[end] = right[i]
		}
		server.answers[ends[int(of)%len(ends)]] = string(answer)
		pool, err := fetch.NewOn(fetch.System{Dial: server.dial}, fetch.Options{
			Upstreams: []*url.URL{{Scheme: "http", Host: "a"}}, Attempts: 1, Concurrency: 1, MaxSize: most,
		})
		require.NoError(t, err)
		defer server.serving.Wait()
		defer pool.Close()
		// A server may say to come again in ten minutes.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if pool.Refresh(ctx, fetch.All) != nil {
			return
		}
		for _, e := range pool.Offers()[:min(1, len(pool.Offers()))] {
			var got *memory
			open := func(_ context.Context, m fetch.Manifest) (fetch.Sink, error) {
				got = new(memory)
				if m.Stated.Size == shardSize && len(m.Stated.Shards) == 1 {
					got.keep(1, bytes.Clone(data[:there]))
				}
				return got, nil
			}
			m, _, err := pool.Fetch(ctx, fetch.Task{Entry: e, Open: open})
			if err != nil {
				continue
			}
			require.LessOrEqual(t, m.Size, int64(most))
			require.EqualValues(t, m.Digest, sha256.Sum256(got.bytes()), "the file is wrong")
			require.True(t, e.Digest == m.Digest || e.Digest == m.BLAKE3)
		}
	})
}
