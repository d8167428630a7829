package release

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"aead.dev/minisign"

	"github.com/shardcast/shardcast/internal/shard"
)

const (
	signatureSize = 2 + 8 + ed25519.SignatureSize // algorithm, identifier of the key, signature
	globalSize    = ed25519.SignatureSize
)

// ErrSignature means that a release was not signed by a key, or was changed afterwards.
var ErrSignature = errors.New("the signature is wrong")

// Signed is a release with its signature, as a file. [Parse] has not verified the signature, and
// [Release.Sign] has made it. The zero value is no release, and has no bytes.
type Signed struct {
	// Release is the list that the file contains.
	Release Release

	file         []byte
	size         int // of the text before the signature
	keyID        uint64
	digest, text shard.Digest
}

// newSigned returns a release in a file, of which size bytes are its text.
func newSigned(r Release, file []byte, size int, keyID uint64) Signed {
	return Signed{
		Release: r, file: file, size: size, keyID: keyID,
		digest: sha256.Sum256(file), text: sha256.Sum256(file[:size]),
	}
}

// Bytes returns the whole file, which the caller may not change.
func (s Signed) Bytes() []byte { return s.file }

// Digest returns the digest of the whole file.
func (s Signed) Digest() shard.Digest { return s.digest }

// TextDigest returns the digest of the text before the signature: of two releases that are equal
// in it, only the signatures differ.
func (s Signed) TextDigest() shard.Digest { return s.text }

// KeyID returns the identifier of the key that the signature names, in 16 hex digits. It is a hint.
func (s Signed) KeyID() string { return formatKeyID(s.keyID) }

// Verify returns an error that matches [ErrSignature] unless key has signed the release as it is.
func (s Signed) Verify(key PublicKey) error {
	if s.keyID != key.key.ID() {
		return fmt.Errorf("%w: it is of the key %s and not of %s", ErrSignature, s.KeyID(), key.ID())
	}
	text := minisign.NewReader(bytes.NewReader(s.file[:s.size]))
	if _, err := io.Copy(io.Discard, text); err != nil {
		return err
	}
	if !text.Verify(key.key, s.file[s.size:]) {
		return fmt.Errorf("%w: the text or its signature was changed since the key %s signed it, or another key "+
			"has signed it", ErrSignature, key.ID())
	}
	return nil
}

// Sign signs the release. The error matches [ErrForm] if a release cannot be like that: the feed
// has no valid name, a number or a time is out of its bounds, or entries are not ascending.
func (r Release) Sign(key PrivateKey) (Signed, error) {
	if err := r.check(); err != nil {
		return Signed{}, err
	}
	text := r.text()
	reader := minisign.NewReader(bytes.NewReader(text)) // its signatures are prehashed
	if _, err := io.Copy(io.Discard, reader); err != nil {
		return Signed{}, err
	}
	const comment = "signature from shardcast"
	signature := reader.SignWithComments(key.key, r.trustedComment(), comment)
	return newSigned(r, append(text, signature...), len(text), key.key.ID()), nil
}
