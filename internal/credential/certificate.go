package credential

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"strings"
	"time"
)

// ParsePair reads a chain of certificates and its private key, both in PEM (RFC 7468). The
// error names the files that they come from.
func ParsePair(certFile, keyFile string, cert, key []byte) (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return pair, fmt.Errorf("%s and %s are no certificate and its key in PEM: %s", certFile, keyFile,
			strings.TrimPrefix(err.Error(), "tls: "))
	}
	return pair, nil
}

// CheckTime returns an error if the certificate is not valid at a time.
func CheckTime(cert tls.Certificate, now time.Time) error {
	switch leaf := cert.Leaf; {
	case leaf == nil:
		return nil
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate has expired on %s", leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is valid from %s on, and it is %s here",
			leaf.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// ParseAuthorities reads certificates in PEM that sign those of others. The error names their
// file.
func ParseAuthorities(file string, text []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, &fs.PathError{Op: "read", Path: file, Err: errors.New("it has no certificates in PEM")}
	}
	return pool, nil
}

// NewIdentity returns a certificate that its own key has signed, by which a node of a swarm is
// known while its process lives. Those that know the node know the digest of its key, see
// [KeyDigest], and nothing else of the certificate counts.
func NewIdentity() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shardcast node"},
		// Clocks differ, and the process ends before the certificate does (RFC 5280, section 4.1.2.5).
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// KeyDigest returns the SHA-256 digest of the public key of a certificate, in DER as in its
// SubjectPublicKeyInfo (RFC 5280, section 4.1).
func KeyDigest(cert *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo)
}

// errOtherKey means that a server has another key than the one that it is known by.
var errOtherKey = errors.New("it has another key than the one that its upstream lists")

// Pinned returns the configuration for connections to the node whose key has the digest. The
// node learns the key of own, by which it knows this one; a nil own shows none.
func Pinned(digest [sha256.Size]byte, own *tls.Certificate) *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, //nolint:gosec // VerifyConnection compares the key itself
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 || KeyDigest(state.PeerCertificates[0]) != digest {
				return errOtherKey
			}
			return nil
		},
	}
	if own != nil {
		c.Certificates = []tls.Certificate{*own}
	}
	return c
}
