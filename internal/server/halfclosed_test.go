package server_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/swarm"
	"github.com/shardcast/shardcast/internal/wire"
)

// As nc -N does, and programs that end their request by shutdown(2).
func TestAReaderThatHasClosedItsSideGetsItsShard(t *testing.T) {
	const size = 300_000
	dir := t.TempDir()
	large(t, filepath.Clean(dir), 1, size)
	for name, limits := range map[string]server.Limits{
		"without a rate": {}, "at a rate": {Rate: 2_000_000}, "at one of its own": {RatePerClient: 2_000_000},
	} {
		for _, as := range []string{"", swarm.AsUpstream} {
			t.Run(name+" "+as, func(t *testing.T) {
				members := swarm.NewMembers(swarm.MembersOptions{Logger: slog.New(slog.DiscardHandler)})
				defer members.Close()
				s := serveAs(t, server.Options{
					Catalog: catalog.New(open(t, dir), nil), Limits: limits, Members: members,
					Logger: slog.New(slog.DiscardHandler),
				})
				conn := dial(t, s.addr)
				_, err := fmt.Fprintf(conn, "GET /v1/shard_001.bin HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\n\r\n",
					wire.SwarmHeader, as)
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
