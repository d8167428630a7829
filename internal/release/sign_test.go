package release_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/release"
)

func TestOnlyTheKeyThatSignedVerifies(t *testing.T) {
	signed := sign(t, example())
	require.NoError(t, signed.Verify(key(t, "minisign.key").Public()))
	err := signed.Verify(key(t, "other.key").Public())
	require.ErrorIs(t, err, release.ErrSignature)
	require.ErrorContains(t, err, "81453EC375B39404", "of the key that it names")
	require.ErrorIs(t, signed.Verify(release.PublicKey{}), release.ErrSignature)
}

func TestAnotherKeyUnderTheSameIdentifierDoesNotVerify(t *testing.T) {
	mine, other := key(t, "minisign.key").Public().String(), key(t, "other.key").Public().String()
	// RW and the identifier are the first 10 bytes: 13 characters, and 2 bits of the next one.
	forged, err := release.ParsePublicKey(mine[:16] + other[16:])
	require.NoError(t, err)
	require.Equal(t, key(t, "minisign.key").Public().ID(), forged.ID())
	require.ErrorIs(t, sign(t, example()).Verify(forged), release.ErrSignature)
}

func TestASignatureIsOfOneTextAlone(t *testing.T) {
	golden := string(read(t, "release.txt"))
	other := example()
	other.Seq++
	lines, more := strings.SplitAfter(golden, "\n"), strings.SplitAfter(string(sign(t, other).Bytes()), "\n")
	for name, change := range map[string]func([]string){
		"a digest":                func(l []string) { l[6] = strings.Replace(l[6], "sha256=0", "sha256=1", 1) },
		"a size":                  func(l []string) { l[6] = strings.Replace(l[6], "size=1", "size=2", 1) },
		"a version taken out":     func(l []string) { l[6] = "" },
		"a version no longer bad": func(l []string) { l[7] = "" },
		"the feed, in both places": func(l []string) {
			l[1] = "feed: f\n"
			l[11] = strings.Replace(l[11], "weights.example.org/llama-rl", "f", 1)
		},
		"the number, in both places": func(l []string) { l[3], l[11] = more[3], more[11] },
		"the expiry":                 func(l []string) { l[5] = "expires: never\n" },
		"the signature of another":   func(l []string) { l[10] = more[10] },
		"the second one of another":  func(l []string) { l[12] = more[12] },
		"both of another":            func(l []string) { l[10], l[12] = more[10], more[12] },
		"an identifier":              func(l []string) { l[10] = l[10][:6] + "A" + l[10][7:] },
	} {
		t.Run(name, func(t *testing.T) {
			changed := append([]string(nil), lines...)
			change(changed)
			signed, err := release.Parse([]byte(strings.Join(changed, "")))
			require.NoError(t, err)
			require.ErrorIs(t, signed.Verify(key(t, "minisign.key").Public()), release.ErrSignature)
		})
	}
}

func TestASignatureOfTheOldFormIsRefused(t *testing.T) {
	text, _, _ := strings.Cut(string(read(t, "release.txt")), "untrusted comment")
	private, err := minisign.PrivateKeyFromFile("", filepath.Join("testdata", "minisign.key"))
	if err != nil { // it is not encrypted
		require.NoError(t, private.UnmarshalText(read(t, "minisign.key")))
	}
	signature := minisign.SignWithComments(private, []byte(text),
		"shardcast release feed=weights.example.org/llama-rl epoch=3 seq=1764375000123", "signature from shardcast")
	public, _ := private.Public().(minisign.PublicKey)
	require.True(t, minisign.Verify(public, []byte(text), signature), "minisign itself takes it")
	_, err = release.Parse([]byte(text + string(signature)))
	require.ErrorIs(t, err, release.ErrForm)
	require.ErrorContains(t, err, `the algorithm of the signature is "Ed", want "ED"`)
}

func TestKeysAreThoseOfMinisign(t *testing.T) {
	private := key(t, "minisign.key")
	public, err := release.ReadPublicKey(filepath.Join("testdata", "minisign.pub"))
	require.NoError(t, err)
	assert.True(t, public.Equal(private.Public()))
	assert.Equal(t, "81453EC375B39404", public.ID())
	assert.Equal(t, "RWQElLN1wz5FgWAj+kK0EGSOfMW1GvlNLlxxENFpFpNRwHdtOou4tudu", public.String())
	again, err := release.ReadPublicKey(public.String())
	require.NoError(t, err)
	assert.True(t, public.Equal(again))
	assert.False(t, public.Equal(key(t, "other.key").Public()))

	assert.Equal(t, string(read(t, "minisign.pub")), string(public.File()))
	file, err := private.File("")
	require.NoError(t, err)
	assert.Equal(t, string(read(t, "minisign.key")), string(file))
}

// TestAnEncryptedKeyNeedsItsPassword reads a key in minisign's form, with an encryption of which
// minisign takes the weak parameters too.
func TestAnEncryptedKeyNeedsItsPassword(t *testing.T) {
	file := filepath.Join("testdata", "encrypted.key")
	word := func(s string, err error) func() (string, error) { return func() (string, error) { return s, err } }
	private, err := release.ReadPrivateKey(file, word("correct horse", nil))
	require.NoError(t, err)
	assert.True(t, private.Public().Equal(key(t, "minisign.key").Public()))
	for _, wrong := range []string{"", "Correct horse"} {
		_, err = release.ReadPrivateKey(file, word(wrong, nil))
		require.ErrorIs(t, err, release.ErrPassword)
		require.ErrorContains(t, err, file)
	}
	_, err = release.ReadPrivateKey(file, word("", os.ErrClosed))
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestKeysThatAreNoneAreRefused(t *testing.T) {
	private := string(read(t, "minisign.key"))
	for name, text := range map[string]string{
		"nothing":            "",
		"a word":             "RWQ",
		"a private key":      private,
		"the key cut off":    key(t, "minisign.key").Public().String()[:55],
		"a key and more":     key(t, "minisign.key").Public().String() + "AAAA",
		"another algorithm":  "RVQ" + key(t, "minisign.key").Public().String()[3:],
		"a key of something": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ",
	} {
		_, err := release.ParsePublicKey(text)
		require.ErrorIs(t, err, release.ErrKey, name)
	}
	lines := strings.SplitAfter(private, "\n")
	for name, text := range map[string]string{
		"nothing":              "",
		"a public key":         string(read(t, "minisign.pub")),
		"cut off":              private[:len(private)/2],
		"another's public key": lines[0] + lines[1][:140] + "A" + lines[1][141:],
	} {
		_, err := release.ParsePrivateKey([]byte(text), noPassword)
		require.ErrorIs(t, err, release.ErrKey, name)
	}
	_, err := release.ReadPublicKey(filepath.Join("testdata", "release.txt"))
	require.ErrorIs(t, err, release.ErrKey)
	_, err = release.ReadPublicKey(filepath.Join("testdata", "missing.pub"))
	require.ErrorIs(t, err, os.ErrNotExist)
	large := filepath.Join(t.TempDir(), "large")
	require.NoError(t, os.WriteFile(large, make([]byte, 5000), 0o600))
	_, err = release.ReadPublicKey(large)
	require.ErrorIs(t, err, release.ErrKey)
}

func TestKeysAreWrittenOnce(t *testing.T) {
	private, err := release.GenerateKey()
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "publisher.key")
	public, err := release.WriteKeys(name, private, "")
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSuffix(name, ".key")+".pub", public)
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	again, err := release.ReadPrivateKey(name, noPassword)
	require.NoError(t, err)
	assert.True(t, again.Public().Equal(private.Public()))
	pub, err := release.ReadPublicKey(public)
	require.NoError(t, err)
	assert.True(t, pub.Equal(private.Public()))
	signed, err := example().Sign(again)
	require.NoError(t, err)
	require.NoError(t, signed.Verify(pub))
	_, err = release.ReadPublicKey(name)
	require.EqualError(t, err,
		name+" is not a key of minisign for readers: it is the private key; name the .pub file beside it")

	before, err := os.ReadFile(name)
	require.NoError(t, err)
	_, err = release.WriteKeys(name, private, "")
	require.ErrorContains(t, err, "exists already")
	require.NoError(t, os.Remove(public))
	_, err = release.WriteKeys(name, private, "")
	require.ErrorIs(t, err, os.ErrExist)
	after, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, before, after)
	assert.NoFileExists(t, public)
}

// FuzzKeys holds that no text of a key is too strange.
func FuzzKeys(f *testing.F) {
	f.Add(read(f, "minisign.key"))
	f.Add(read(f, "minisign.pub"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := release.ParsePublicKey(string(text)); err == nil {
			again, err := release.ParsePublicKey(k.String())
			require.NoError(t, err)
			require.True(t, k.Equal(again))
		}
		if minisign.IsEncrypted(bytes.TrimSpace(text)) {
			return // deriving its key takes seconds
		}
		_, err := release.ParsePrivateKey(text, noPassword)
		if err != nil {
			require.ErrorIs(t, err, release.ErrKey)
		}
	})
}
