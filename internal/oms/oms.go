// Package oms signs the files of a model as OpenSSF Model Signing 1.0 says, by a key of the curve
// P-256, so that other programs can check a directory by its file model.sig. It refuses to know
// where the files are.
//
// The file is a Sigstore bundle in JSON. Its envelope (DSSE 1.0) has a statement (in-toto 1.0) that lists
// each file with its SHA-256, in the order of the paths' bytes. The key is named by the SHA-256 of its
// public part in PEM. Equal files, name and key make an equal signature (RFC 6979).
package oms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/shardcast/shardcast/internal/shard"
)

// FileName is the name of a signature in the directory that it is of.
const FileName = "model.sig"

// maxKey bounds the file of a key in bytes.
const maxKey = 64 << 10

const (
	mediaType     = "application/vnd.dev.sigstore.bundle.v0.3+json"
	payloadType   = "application/vnd.in-toto+json"
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://model_signing/signature/v1.0"
)

// Errors of signing.
var (
	// ErrKey means that a file has no key that can sign.
	ErrKey = errors.New("not a private key of the curve P-256 in PEM")

	// ErrEmpty means that a directory has no file that is signed.
	ErrEmpty = errors.New("there is no file to sign")
)

// ignored are the files and directories at the top of a model that are not signed.
func ignored() []string { return []string{FileName, ".git", ".gitattributes", ".github", ".gitignore"} }

// A File is one of a model.
type File struct {
	Path   string // from the model on, with slashes
	Digest shard.Digest
}

// ReadKey reads the private key in a file: EC PRIVATE KEY (SEC 1) or PRIVATE KEY (PKCS #8), which is
// not encrypted. Errors match [ErrKey], or are the file system's.
func ReadKey(name string) (*ecdsa.PrivateKey, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		switch block.Type {
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		default:
			continue // such as EC PARAMETERS
		}
		if ec, ok := key.(*ecdsa.PrivateKey); err == nil && ok && ec.Curve == elliptic.P256() {
			return ec, nil
		}
	}
	return nil, fmt.Errorf("%s is %w; 'openssl ecparam -name prime256v1 -genkey -noout' makes one", name, ErrKey)
}

// resource is a signed file.
type resource struct {
	Algorithm string       `json:"algorithm"`
	Digest    shard.Digest `json:"digest"`
	Name      string       `json:"name"`
}

// serialization says how the files were found.
type serialization struct {
	Method        string   `json:"method"`
	HashType      string   `json:"hash_type"`
	AllowSymlinks bool     `json:"allow_symlinks"`
	IgnorePaths   []string `json:"ignore_paths"`
}

// predicate is what a statement says of a model.
type predicate struct {
	Serialization serialization `json:"serialization"`
	Resources     []resource    `json:"resources"`
}

// subject names the model, and has the digest of the digests of its files.
type subject struct {
	Name   string                  `json:"name"`
	Digest map[string]shard.Digest `json:"digest"`
}

// statement is what is signed.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

// bundle is the content of the file. Its slices of bytes are base64 in JSON.
type bundle struct {
	MediaType            string   `json:"mediaType"`
	VerificationMaterial material `json:"verificationMaterial"`
	Envelope             envelope `json:"dsseEnvelope"`
}

type material struct {
	PublicKey   publicKey  `json:"publicKey"`
	TlogEntries []struct{} `json:"tlogEntries"`
}

type publicKey struct {
	Hint string `json:"hint"`
}

type envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Sig   []byte `json:"sig"`
	KeyID string `json:"keyid"`
}

// Sign returns the content of the signature of the files of a model, but of those that the
// specification leaves out: the signature itself, and .git, .gitattributes, .github and .gitignore at the
// top. The error matches [ErrEmpty] if no file is left.
func Sign(key *ecdsa.PrivateKey, model string, files []File) ([]byte, error) {
	list := resources(files)
	if len(list) == 0 {
		return nil, ErrEmpty
	}
	root := sha256.New()
	for _, r := range list {
		root.Write(r.Digest[:])
	}
	payload, err := encode(statement{
		Type:          statementType,
		Subject:       []subject{{Name: model, Digest: map[string]shard.Digest{"sha256": shard.Digest(root.Sum(nil))}}},
		PredicateType: predicateType,
		Predicate: predicate{
			Serialization: serialization{Method: "files", HashType: "sha256", IgnorePaths: ignored()},
			Resources:     list,
		},
	})
	if err != nil {
		return nil, err
	}
	hint, err := hintOf(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(preAuthentication(payload))
	sig, err := key.Sign(nil, digest[:], crypto.SHA256) // without randomness
	if err != nil {
		return nil, err
	}
	return encode(bundle{
		MediaType:            mediaType,
		VerificationMaterial: material{PublicKey: publicKey{Hint: hint}, TlogEntries: []struct{}{}},
		Envelope: envelope{
			Payload: payload, PayloadType: payloadType, Signatures: []signature{{Sig: sig}},
		},
	})
}

// resources returns the signed ones of files, in the order of their paths.
func resources(files []File) []resource {
	var list []resource
	for _, f := range files {
		top, _, _ := strings.Cut(f.Path, "/")
		if !slices.Contains(ignored(), top) {
			list = append(list, resource{Algorithm: "sha256", Digest: f.Digest, Name: f.Path})
		}
	}
	slices.SortFunc(list, func(a, b resource) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// preAuthentication is what the key signs of a payload.
func preAuthentication(payload []byte) []byte {
	return append(fmt.Appendf(nil, "DSSEv1 %d %s %d ", len(payloadType), payloadType, len(payload)), payload...)
}

// hintOf is the digest of a public key in PEM.
func hintOf(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))), nil
}

// encode returns the JSON of value.
func encode(value any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(text.Bytes(), []byte{'\n'}), nil
}
