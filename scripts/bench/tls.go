//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shardcast/shardcast/internal/credential"
)

// tlsPart measures the cost of sending over TLS, which the program encrypts, beside that of
// plain HTTP, where the kernel sends files by itself.
func (b *bench) tlsPart(ctx context.Context) error {
	v, err := b.version(ctx)
	if err != nil {
		return err
	}
	files, over, err := b.certificate()
	if err != nil {
		return err
	}
	l := load{paths: v.paths, readers: 10, span: b.flags.span}
	var tools []tool
	for _, side := range b.sides() {
		plain, err := side.origin(ctx, v)
		if err != nil {
			return err
		}
		defer plain.Kill()
		tools = append(tools, reading(side.of+"shardcast-origin", Ours, l, plain))
		if side.of != "" {
			continue // it may know no TLS
		}
		again, err := b.published(ctx, v.file, v.data+"-tls", v.shardSize)
		if err != nil {
			return err
		}
		defer again.remove() //nolint:errcheck // the directory goes with all the rest
		secure, err := b.serve(ctx, "origin", again.data, "--tls-cert", files.cert, "--tls-key", files.key)
		if err != nil {
			return err
		}
		defer secure.Kill()
		secure.over = over
		tools = append(tools, reading("shardcast-origin, TLS", Ours, l, secure))
	}
	n, err := b.nginxTLS(ctx, v, files)
	if err != nil {
		return err
	}
	if n != nil {
		defer n.Kill()
		n.over = over
	}
	tools = append(tools, reading("nginx, TLS", Other, l, n))
	title := "10 concurrent downloads over TLS 1.3 of shards of %s, for %s"
	return b.table(ctx, &Table{
		Name: "tls-10", Key: CPURate, Title: fmt.Sprintf(title, b.flags.shardSize.String(), l.span),
	}, tools)
}

// pemFiles are the files of a certificate and its key.
type pemFiles struct{ cert, key string }

// certificate makes one, and returns how to connect to its server.
func (b *bench) certificate() (files pemFiles, over *tls.Config, err error) {
	pair, err := credential.NewIdentity()
	if err != nil {
		return files, nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return files, nil, err
	}
	files = pemFiles{filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")}
	for name, block := range map[string]*pem.Block{
		files.cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		files.key:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			return files, nil, err
		}
	}
	return files, credential.Pinned(credential.KeyDigest(pair.Leaf), nil), nil
}

// nginxTLS starts one that speaks TLS, or returns nil where there is none.
func (b *bench) nginxTLS(ctx context.Context, v version, files pemFiles) (*server, error) {
	if nginx() == "" {
		return nil, nil //nolint:nilnil // as the row says
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	block := fmt.Sprintf("listen %s ssl; ssl_certificate %s; ssl_certificate_key %s; ", address, files.cert, files.key)
	s, err := b.nginx(ctx, "ssl_protocols TLSv1.3;", block+static(v.data))
	if err != nil {
		return nil, err
	}
	s.address = address
	return s, reachable(ctx, s.process, address)
}
