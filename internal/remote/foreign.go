package remote

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// ErrForeign means that an answer is not from a server of versions, or not as one sent it.
var ErrForeign = errors.New("it is no shardcast server")

// sniffed bytes of an answer show whether it is a page.
const sniffed = 64

// checkContent refuses an answer whose bytes are encoded, or are a page for people, which
// captive portals and proxies send with a good status. The error matches [ErrForeign].
func (b *Body) checkContent() error {
	if encoding := b.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		err := fmt.Errorf("it sends the bytes encoded by %.40q (Content-Encoding), which is of no use here", encoding)
		return Matching(err, ErrForeign)
	}
	if kind, _, _ := mime.ParseMediaType(b.Header.Get("Content-Type")); kind != "text/html" {
		return nil
	}
	begin := make([]byte, sniffed)
	n, err := io.ReadFull(b.body, begin)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return b.cause(err)
	}
	begin = begin[:n]
	if bytes.HasPrefix(bytes.TrimLeft(begin, "\ufeff \t\r\n"), []byte("<")) {
		return fmt.Errorf("%w: it answered an HTML page", ErrForeign)
	}
	b.body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(begin), b.body), b.body}
	return nil
}

// explained adds to an error of a connection what is to be done about it.
func explained(err error, target *url.URL) error {
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var name *net.DNSError
	switch {
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return fmt.Errorf("the server speaks no TLS: use http://%s", target.Host)
	// The transport has no error of its own for this; 21 is a TLS alert (RFC 8446, section 5.1).
	case target.Scheme == "http" && strings.Contains(err.Error(), `malformed HTTP response "\x15\x03`):
		return speaksTLS(target.Host)
	// Nor has it one for what a server says of this node's certificate (RFC 8446, section 6.2).
	case strings.Contains(err.Error(), "tls: certificate required"):
		return fmt.Errorf("%w: give a certificate of this node by --cert and --key-pem", err)
	case strings.Contains(err.Error(), "remote error: tls: ") && strings.Contains(err.Error(), "certificate"):
		return fmt.Errorf("%w: the server does not take the certificate in --cert", err)
	case errors.As(err, &authority):
		return fmt.Errorf("%w: give the certificate of its authority by --ca-file", err)
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Errorf("no host has the name %q", name.Name)
	}
	return err
}

// speaksTLS is the error for an https:// server that was asked by http://.
func speaksTLS(host string) error { return fmt.Errorf("the server speaks TLS: use https://%s", host) }
