package oms_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/oms"
	"github.com/shardcast/shardcast/internal/shard"
)

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

// file is one with its path as its content.
func file(path string) oms.File { return oms.File{Path: path, Digest: sha256.Sum256([]byte(path))} }

// bundle is the content of a signature as the specification has it: JSON of other members does
// not decode into it.
type bundle struct {
	MediaType            string `json:"mediaType"`
	VerificationMaterial struct {
		PublicKey struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
		TlogEntries []any `json:"tlogEntries"`
	} `json:"verificationMaterial"`
	DSSEEnvelope struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig   []byte `json:"sig"`
			KeyID string `json:"keyid"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

func TestASignatureIsAsTheSpecificationSays(t *testing.T) {
	t.Parallel()
	key := newKey(t, elliptic.P256())
	files := []oms.File{
		file("b.bin"), file("a/b.bin"), file("a-b"), file("模型.bin"), file(`<&">`), file("sub/.git/x"),
		file(".gitattributes"), file(".git/config"), file(".gitignore"), file(".github/x"), file("model.sig"),
	}
	text, err := oms.Sign(key, "llama <8B>", files)
	require.NoError(t, err)
	var b bundle
	decodeStrictly(t, text, &b)
	assert.Equal(t, "application/vnd.dev.sigstore.bundle.v0.3+json", b.MediaType)
	assert.Equal(t, []any{}, b.VerificationMaterial.TlogEntries)
	assert.Equal(t, "application/vnd.in-toto+json", b.DSSEEnvelope.PayloadType)
	require.Len(t, b.DSSEEnvelope.Signatures, 1)
	assert.Empty(t, b.DSSEEnvelope.Signatures[0].KeyID)

	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	public := sha256.Sum256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	assert.Equal(t, hex.EncodeToString(public[:]), b.VerificationMaterial.PublicKey.Hint)

	payload := b.DSSEEnvelope.Payload
	signed := "DSSEv1 28 application/vnd.in-toto+json " + strconv.Itoa(len(payload)) + " " + string(payload)
	digest := sha256.Sum256([]byte(signed))
	assert.True(t, ecdsa.VerifyASN1(&key.PublicKey, digest[:], b.DSSEEnvelope.Signatures[0].Sig))

	root, list := sha256.New(), ""
	for _, path := range []string{`<&">`, "a-b", "a/b.bin", "b.bin", "sub/.git/x", "模型.bin"} {
		sum := sha256.Sum256([]byte(path))
		root.Write(sum[:])
		if list != "" {
			list += ","
		}
		name, err := json.Marshal(path)
		require.NoError(t, err)
		list += fmt.Sprintf(`{"name":%s,"algorithm":"sha256","digest":"%x"}`, name, sum)
	}
	assert.JSONEq(t, fmt.Sprintf(`{
		"_type": "https://in-toto.io/Statement/v1",
		"subject": [{"name": "llama <8B>", "digest": {"sha256": "%x"}}],
		"predicateType": "https://model_signing/signature/v1.0",
		"predicate": {
			"serialization": {
				"method": "files", "hash_type": "sha256", "allow_symlinks": false,
				"ignore_paths": ["model.sig", ".git", ".gitattributes", ".github", ".gitignore"]
			},
			"resources": [%s]
		}
	}`, root.Sum(nil), list), string(payload))

	again, err := oms.Sign(key, "llama <8B>", files)
	require.NoError(t, err)
	assert.Equal(t, text, again, "equal files have an equal signature")
}

// decodeStrictly decodes JSON that has no other members.
func decodeStrictly(t *testing.T, text []byte, into *bundle) {
	t.Helper()
	require.NoError(t, json.Unmarshal(text, into))
	again, err := json.Marshal(into)
	require.NoError(t, err)
	require.JSONEq(t, string(again), string(text))
}

func TestAModelWithoutFilesIsNotSigned(t *testing.T) {
	t.Parallel()
	_, err := oms.Sign(newKey(t, elliptic.P256()), "model", []oms.File{{Path: ".gitignore", Digest: shard.Digest{1}}})
	require.ErrorIs(t, err, oms.ErrEmpty)
}

func TestAKeyIsReadInItsUsualForms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, other := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	sec1, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	p384, err := x509.MarshalPKCS8PrivateKey(other)
	require.NoError(t, err)
	encode := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	for name, tc := range map[string]struct {
		text []byte
		ok   bool
	}{
		"sec1":      {append(encode("EC PARAMETERS", []byte{6}), encode("EC PRIVATE KEY", sec1)...), true},
		"pkcs8":     {encode("PRIVATE KEY", pkcs8), true},
		"p384":      {encode("PRIVATE KEY", p384), false},
		"encrypted": {encode("ENCRYPTED PRIVATE KEY", pkcs8), false},
		"spoilt":    {encode("EC PRIVATE KEY", sec1[:20]), false},
		"empty":     {nil, false},
	} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, tc.text, 0o600))
		got, err := oms.ReadKey(file)
		if !tc.ok {
			require.ErrorIs(t, err, oms.ErrKey, name)
			continue
		}
		require.NoError(t, err, name)
		assert.True(t, key.Equal(got), name)
	}
	_, err = oms.ReadKey(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
