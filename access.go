package shardcast

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/shardcast/shardcast/internal/server"
	"github.com/shardcast/shardcast/internal/wire"
)

// AccessOptions say who may read from an [Origin] or [Middle]. The zero value is for all that
// reach it.
type AccessOptions struct {
	// TokensFile has a line for each token that readers may show (RFC 6750): a name, the SHA-256
	// of the token in hex and, for one that may also see the status, the metrics and /readyz, the
	// word admin. Lines that are empty or begin with # do not count. The server reads the file
	// again when it changes; one with a bad line leaves the tokens before in use. Requests
	// without a token get 401, but for /healthz. Empty asks for no tokens.
	TokensFile string

	// AdminAddr is a second address, host:port, or a port of loopback, that serves the status, the
	// metrics and /readyz, which are missing at the first one then. It asks for no tokens. Empty
	// means none.
	AdminAddr string

	// Open says that all that reach the server may read, so that it does not warn of it.
	Open bool
}

// serve fills in those fields of serving that o is about.
func (o AccessOptions) serve(serving *server.Options, logger *slog.Logger) (err error) {
	serving.Open, serving.AdminAddr = o.Open, o.AdminAddr
	if o.AdminAddr != "" {
		_, port, err := net.SplitHostPort(wire.LocalAddress(o.AdminAddr))
		if err != nil {
			return fmt.Errorf("%w: Access.AdminAddr: %q, want HOST:PORT or a port", ErrOptions, o.AdminAddr)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > maxPort {
			return fmt.Errorf("%w: Access.AdminAddr: port %q, want 0 to %d", ErrOptions, port, maxPort)
		}
	}
	if o.TokensFile == "" {
		return nil
	}
	if serving.Members != nil && serving.TLS == nil {
		logger.Warn("swarm is off, as its nodes would pass on to anything what only those with a token may read",
			"hint", "give --tls-cert: over TLS nodes know one another")
		serving.Members.Close()
		serving.Members = nil
	}
	if serving.Tokens, err = server.NewTokens(o.TokensFile, logger); err != nil {
		return fmt.Errorf("%w: Access.TokensFile: %w", ErrOptions, err)
	}
	return nil
}
