package server_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/slots"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// As nc -N does, and programs that end their request by shutdown(2).
func TestAReaderThatHasClosedItsSideGetsItsBytes(t *testing.T) {
	const size = 300_000
	dir := t.TempDir()
	st := open(t, dir)
	large(t, dir, 1, size)
	publishIn(t, st, 3, strings.Repeat("c", size), size)
	for name, limits := range map[string]slots.Limits{
		"without a rate": {}, "at a rate": {Rate: 2_000_000}, "at one of its own": {RatePerClient: 2_000_000},
	} {
		for what, request := range map[string]struct{ path, as string }{
			"a shard": {"/v1/shard_001.bin", ""}, "a node's shard": {"/v1/shard_001.bin", swarm.AsUpstream},
			"a stream": {"/v3/stream", ""},
		} {
			t.Run(what+" "+name, func(t *testing.T) {
				members := swarm.NewMembers(swarm.MembersOptions{Logger: slog.New(slog.DiscardHandler)})
				defer members.Close()
				s := serveAs(t, server.Options{
					Catalog: catalog.New(st, nil), Limits: limits, Members: members,
					Logger: slog.New(slog.DiscardHandler),
				})
				conn := dial(t, s.addr)
				_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\n\r\n",
					request.path, wire.SwarmHeader, request.as)
				require.NoError(t, err)
				require.NoError(t, conn.CloseWrite())
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				require.NoError(t, err)
				defer resp.Body.Close()
				n, err := io.Copy(io.Discard, resp.Body)
				require.NoError(t, err)
				assert.EqualValues(t, size, n)
			})
		}
	}
}
