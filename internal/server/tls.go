package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"github.com/shardcast/shardcast/internal/credential"
)

// http1 is the one protocol above TLS (RFC 7301, section 6). With HTTP/2 the shards that a
// client takes at the same time would share a connection, and its window.
const http1 = "http/1.1"

// TLSFiles are the files, in PEM, of a server that speaks TLS.
type TLSFiles struct {
	// Cert and Key are the server's certificate, with those between it and its authority, and
	// its private key.
	Cert, Key string

	// ClientCA has the authorities of clients' certificates: others are refused. Empty admits
	// clients without a certificate.
	ClientCA string
}

// TLS is how a server speaks TLS: 1.3 alone, and HTTP/1.1 above it. Connections keep the
// certificate that they have begun with.
type TLS struct {
	source *credential.Source[*tls.Config]
	mutual bool
}

// NewTLS reads files, and again when they change. New ones that are of no use, or that have
// expired, leave those before in use, with a warning.
func NewTLS(files TLSFiles, logger *slog.Logger) (*TLS, error) {
	names := []string{files.Cert, files.Key}
	if files.ClientCA != "" {
		names = append(names, files.ClientCA)
	}
	warned := false
	source, err := credential.NewSource(names, func(texts [][]byte) (*tls.Config, error) {
		pair, err := credential.ParsePair(files.Cert, files.Key, texts[0], texts[1])
		if err != nil {
			return nil, err
		}
		if err := credential.CheckTime(pair, time.Now()); err != nil {
			if warned {
				return nil, err
			}
			logger.Warn("certificate is not valid now", "file", files.Cert, "err", err)
		}
		warned = true
		c := &tls.Config{
			Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{http1},
			// A session that goes on would not be asked again for a certificate, whose authority
			// may have gone since.
			SessionTicketsDisabled: true,
		}
		if files.ClientCA != "" {
			c.ClientAuth = tls.RequireAndVerifyClientCert
			c.ClientCAs, err = credential.ParseAuthorities(files.ClientCA, texts[2])
		}
		return c, err
	}, func(now *tls.Config, err error) {
		if err != nil {
			logger.Warn("new certificate is of no use, and the one before stays", "file", files.Cert, "err", err)
			return
		}
		logger.Info("certificate reloaded", "file", files.Cert, "expires", now.Certificates[0].Leaf.NotAfter)
	})
	if err != nil {
		return nil, err
	}
	return &TLS{source: source, mutual: files.ClientCA != ""}, nil
}

// Reload reads the files at once. A nil receiver is allowed.
func (t *TLS) Reload() {
	if t != nil {
		t.source.Reload()
	}
}

// expires returns when the certificate does, or zero for a nil receiver.
func (t *TLS) expires() time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.source.Value().Certificates[0].Leaf.NotAfter
}

// isMutual reports whether clients have to show a certificate. A nil receiver is allowed.
func (t *TLS) isMutual() bool { return t != nil && t.mutual }

// over returns a listener of TLS connections over those of ln, or ln for a nil receiver.
func (t *TLS) over(ln net.Listener) net.Listener {
	if t == nil {
		return ln
	}
	return tls.NewListener(ln, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.source.Value(), nil },
	})
}

// follow looks at the files until ctx ends, so that a warning does not wait for a client. A
// nil receiver is allowed.
func (t *TLS) follow(ctx context.Context) {
	if t != nil {
		t.source.Follow(ctx)
	}
}
