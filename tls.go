package shardcast

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"

	"github.com/shardcast/shardcast/internal/credential"
	"github.com/shardcast/shardcast/internal/remote"
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
		of := map[string]string{o.KeyFile: "TLS.KeyFile", o.ClientCAFile: "TLS.ClientCAFile"}
		return nil, fmt.Errorf("%w: %s: %w", ErrOptions, fileOption(err, of, "TLS.CertFile"), err)
	}
	return t, nil
}

// fileOption returns the option, of those that have a file each, of the file that err is about, or otherwise.
func fileOption(err error, of map[string]string, otherwise string) string {
	var file *fs.PathError
	if errors.As(err, &file) {
		return cmp.Or(of[file.Path], otherwise)
	}
	return otherwise
}

// authorities returns those that sign the certificates of servers, or nil for those of the
// system. The error matches ErrOptions.
func (o FetchOptions) authorities(logger *slog.Logger) (func() *x509.CertPool, error) {
	switch {
	case o.CAFile != "":
	case o.RootCAs != nil:
		return func() *x509.CertPool { return o.RootCAs }, nil
	default:
		return nil, nil //nolint:nilnil // the system's
	}
	source, err := credential.NewSource([]string{o.CAFile}, func(texts [][]byte) (*x509.CertPool, error) {
		return credential.ParseAuthorities(o.CAFile, texts[0])
	}, func(_ *x509.CertPool, err error) {
		if err != nil {
			logger.Warn("new authorities are of no use, and the ones before stay", "file", o.CAFile, "err", err)
			return
		}
		logger.Info("authorities reloaded", "file", o.CAFile)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: Fetch.CAFile: %w", ErrOptions, err)
	}
	return source.Value, nil
}

// identity returns what upstreams know the node by. The error matches ErrOptions.
func (o FetchOptions) identity(upstreams []*url.URL, logger *slog.Logger) (remote.Identity, error) {
	var i remote.Identity
	if o.CertFile != "" || o.KeyFile != "" {
		switch {
		case o.CertFile == "":
			return i, fmt.Errorf("%w: Fetch.CertFile: it is missing, and the key is for it", ErrOptions)
		case o.KeyFile == "":
			return i, fmt.Errorf("%w: Fetch.KeyFile: it is missing, and the certificate needs it", ErrOptions)
		}
		files := []string{o.CertFile, o.KeyFile}
		own, err := credential.NewSource(files, func(texts [][]byte) (tls.Certificate, error) {
			return credential.ParsePair(o.CertFile, o.KeyFile, texts[0], texts[1])
		}, func(_ tls.Certificate, err error) {
			if err != nil {
				logger.Warn("new certificate is of no use, and the one before stays", "file", o.CertFile, "err", err)
			}
		})
		if err != nil {
			of := map[string]string{o.KeyFile: "Fetch.KeyFile"}
			return i, fmt.Errorf("%w: %s: %w", ErrOptions, fileOption(err, of, "Fetch.CertFile"), err)
		}
		i.Certificate = own.Value
	}
	if o.TokenFile == "" {
		return i, nil
	}
	for _, u := range upstreams {
		if u.User == nil && !remote.MayHaveToken(u) {
			return i, fmt.Errorf("%w: Fetch.TokenFile: anything on the way to %s could read the token: use https://",
				ErrOptions, u.Redacted())
		}
	}
	token, err := credential.NewToken(o.TokenFile, func(_ string, err error) {
		if err != nil {
			logger.Warn("new token is of no use, and the one before stays", "file", o.TokenFile, "err", err)
		}
	})
	if err != nil {
		return i, fmt.Errorf("%w: Fetch.TokenFile: %w", ErrOptions, err)
	}
	i.Token = token.Value
	return i, nil
}
