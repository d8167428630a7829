package shardcast

import (
	"fmt"
	"log/slog"

	"github.com/shardcast/shardcast/internal/server"
)

// TLSOptions are the files by which an [Origin] or [Middle] speaks TLS 1.3, in PEM. The zero
// value is for a server without TLS. The server reads the files again when they change; what
// is of no use leaves those before in use, with a warning. Connections keep the certificate
// that they have begun with.
type TLSOptions struct {
	// CertFile has the server's certificate, and those between it and its authority; KeyFile
	// has the private key. One needs the other.
	CertFile, KeyFile string

	// ClientCAFile has the authorities that sign the certificates of clients, which have to
	// show one then. Empty means that clients show none.
	ClientCAFile string
}

// serving returns how a server speaks TLS, or nil if it does not. The error matches
// ErrOptions.
func (o TLSOptions) serving(logger *slog.Logger) (*server.TLS, error) {
	switch {
	case o == TLSOptions{}:
		return nil, nil //nolint:nilnil // no TLS, which is fine
	case o.CertFile == "":
		return nil, fmt.Errorf("%w: TLS.CertFile: it is missing, and a server with TLS needs it", ErrOptions)
	case o.KeyFile == "":
		return nil, fmt.Errorf("%w: TLS.KeyFile: it is missing, and the certificate needs it", ErrOptions)
	}
	t, err := server.NewTLS(server.TLSFiles{Cert: o.CertFile, Key: o.KeyFile, ClientCA: o.ClientCAFile}, logger)
	if err != nil {
		return nil, fmt.Errorf("%w: TLS.CertFile: %w", ErrOptions, err)
	}
	return t, nil
}
