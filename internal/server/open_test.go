package server_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/server"
)

// everywhere is a listener of loopback that calls itself one of another address.
type everywhere struct {
	net.Listener

	addr net.Addr
}

func (l everywhere) Addr() net.Addr { return l.addr }

func TestAServerThatOthersCanReachSaysSoOnceAtItsStart(t *testing.T) {
	tokens, err := server.NewTokens(tokenFile(t), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for _, tc := range []struct {
		addr   string
		open   bool
		tokens *server.Tokens
		want   int
	}{
		{"0.0.0.0", false, nil, 1},
		{"::", false, nil, 1},
		{"10.0.0.1", false, nil, 1},
		{"127.0.0.1", false, nil, 0},
		{"::1", false, nil, 0},
		{"0.0.0.0", true, nil, 0},
		{"0.0.0.0", false, tokens, 0},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		var log strings.Builder
		ctx, end := context.WithCancel(t.Context())
		end()
		at := &net.TCPAddr{IP: net.ParseIP(tc.addr), Port: 8000}
		require.NoError(t, server.Serve(ctx, everywhere{ln, at}, server.Options{
			Catalog: catalog.New(open(t, t.TempDir()), nil), Open: tc.open, Tokens: tc.tokens,
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		}))
		warning := `level=WARN msg="every machine that reaches this address`
		assert.Equal(t, tc.want, strings.Count(log.String(), warning), "%+v", tc)
	}
}
