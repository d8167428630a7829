package credential_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/credential"
)

// put writes a file of tokens.
func put(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}

func digestOf(token string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(token))) }

func TestReadersAreFoundByTheirTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	put(t, file, "# who reads\n\n gpu-7 "+digestOf("one")+"\r\ngpu-7\t"+strings.ToUpper(digestOf("two"))+
		"\nops@example.com "+digestOf("three")+"  admin")
	s, err := credential.NewReaders(file, nil)
	require.NoError(t, err)
	for token, want := range map[string]credential.Reader{
		"one": {Name: "gpu-7"}, "two": {Name: "gpu-7"}, "three": {Name: "ops@example.com", Admin: true},
	} {
		got, ok := s.Value().Find(token)
		assert.True(t, ok, token)
		assert.Equal(t, want, got)
	}
	for _, token := range []string{"", "on", "one ", "One", digestOf("one"), "ops@example.com", "admin"} {
		got, ok := s.Value().Find(token)
		assert.False(t, ok, token)
		assert.Zero(t, got)
	}
	_, ok := credential.Readers{}.Find("")
	assert.False(t, ok)
}

func TestABadLineRefusesTheFileAndIsNamedWithoutItsToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	good := "a " + digestOf("one") + "\n"
	for text, want := range map[string]string{
		good + "b s3cret":                               "tokens, line 2: b has no SHA-256 of a token in 64 hex digits",
		good + "#\nb " + digestOf("s3cret")[1:]:         "line 3: b has no SHA-256",
		good + "b " + digestOf("s3cret") + "0":          "line 2: b has no SHA-256",
		good + "b " + digestOf("s3cret") + "00":         "line 2: b has no SHA-256",
		good + "b":                                      "line 2: the SHA-256 of the token of b is missing",
		good + "b " + digestOf("s3cret") + " admins":    "line 2: want a name, a SHA-256 and",
		good + "b " + digestOf("s3cret") + " admin x":   "line 2: want a name, a SHA-256 and",
		good + digestOf("s3cret") + "  -":               "line 2: a name has up to 48 letters",
		good + digestOf("s3cret") + "x -":               "line 2: a name has up to 48 letters",
		good + "- " + digestOf("s3cret"):                "line 2: a name has",
		good + "b]x " + digestOf("s3cret"):              "line 2: a name has",
		good + "b\x00 " + digestOf("s3cret"):            "line 2: a name has",
		good + "bü " + digestOf("s3cret"):               "line 2: a name has",
		good + "b " + digestOf("one"):                   "line 2: the token of a stands here again",
		strings.Repeat("x", 49) + " " + digestOf("one"): "line 1: a name has",
		"":              "has no token",
		"# nothing\n\n": "has no token",
	} {
		put(t, file, text)
		_, err := credential.NewReaders(file, nil)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "s3cret")
	}
	_, err := credential.NewReaders(filepath.Join(t.TempDir(), "missing"), nil)
	require.ErrorContains(t, err, "no such file")
	var many strings.Builder
	for i := range credential.MaxReaders {
		fmt.Fprintf(&many, "a %s\n", digestOf(fmt.Sprint(i)))
	}
	put(t, file, many.String())
	_, err = credential.NewReaders(file, nil)
	require.NoError(t, err)
	put(t, file, many.String()+"b "+digestOf("one more"))
	_, err = credential.NewReaders(file, nil)
	require.ErrorContains(t, err, "line 1001: more than 1000 tokens")
}

// Whatever a file has, either it is refused, or each reader in it has a name that can stand in a
// log, and is found by its token alone.
func FuzzReaders(f *testing.F) {
	f.Add("# who reads\n\n gpu-7 " + digestOf("one") + "\r\nops\t" + strings.ToUpper(digestOf("two")) + " admin")
	f.Add("gpu-7 " + digestOf("") + "\ngpu-8 " + digestOf("") + "\n")
	f.Add("gpu-7 " + digestOf("one")[1:] + "\n" + digestOf("one") + "  -\n")
	f.Add("a b c d\n\x00\xff \u00a0")
	file := filepath.Join(f.TempDir(), "tokens")
	f.Fuzz(func(t *testing.T, text string) {
		put(t, file, text)
		s, err := credential.NewReaders(file, nil)
		if err != nil {
			require.Contains(t, err.Error(), file)
			return
		}
		known := s.Value()
		for _, token := range []string{"one", "two", ""} {
			reader, ok := known.Find(token)
			if ok {
				require.Contains(t, strings.ToLower(text), digestOf(token))
				require.Regexp(t, `^[A-Za-z0-9._@][A-Za-z0-9._@-]{0,47}$`, reader.Name)
			}
		}
	})
}
