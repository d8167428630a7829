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
	files := certified(t)
	files.ClientCA = files.Cert
	mutual, err := server.NewTLS(files, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for _, tc := range []struct {
		addr string
		opts server.Options
		want int
	}{
		{"0.0.0.0", server.Options{}, 1},
		{"::", server.Options{}, 1},
		{"10.0.0.1", server.Options{}, 1},
		{"127.0.0.1", server.Options{}, 0},
		{"::1", server.Options{}, 0},
		{"0.0.0.0", server.Options{TLS: speaking(t)}, 1},
		{"0.0.0.0", server.Options{TLS: mutual}, 0},
		{"0.0.0.0", server.Options{Tokens: tokens}, 0},
		{"0.0.0.0", server.Options{Open: true}, 0},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		var log strings.Builder
		ctx, end := context.WithCancel(t.Context())
		end()
		at := &net.TCPAddr{IP: net.ParseIP(tc.addr), Port: 8000}
		tc.opts.Catalog = catalog.New(open(t, t.TempDir()), nil)
		tc.opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		require.NoError(t, server.Serve(ctx, everywhere{ln, at}, tc.opts))
		warning := `level=WARN msg="every machine that reaches this address`
		assert.Equal(t, tc.want, strings.Count(log.String(), warning), "%s %+v", tc.addr, tc.opts)
	}
}
