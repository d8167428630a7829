package credential_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/credential"
)

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), mode))
	require.NoError(t, os.Chmod(file, mode))
}

func TestABadChangeLeavesTheValueAndIsToldOnce(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	write(t, one, "a", 0o600)
	write(t, two, "a", 0o600)
	var told []string
	s, err := credential.NewSource([]string{one, two}, func(texts [][]byte) (string, error) {
		if string(texts[0]) != string(texts[1]) {
			return "", errors.New("they differ")
		}
		return string(texts[0]), nil
	}, func(now string, err error) {
		if err != nil {
			now += " " + err.Error()
		}
		told = append(told, now)
	})
	require.NoError(t, err)
	s.Reload()
	assert.Empty(t, told, "nothing has changed")
	write(t, one, "b", 0o600)
	for range 3 {
		s.Reload()
		assert.Equal(t, "a", s.Value())
	}
	assert.Equal(t, []string{"a they differ"}, told)
	write(t, two, "b", 0o600)
	s.Reload()
	assert.Equal(t, "b", s.Value())
	require.NoError(t, os.Remove(two))
	s.Reload()
	assert.Equal(t, "b", s.Value())
	require.Len(t, told, 3)
	assert.Equal(t, "b", told[1])
	assert.Contains(t, told[2], "no such file")
}

func TestTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for text, want := range map[string]string{
		"abc-._~+/=\n": "abc-._~+/=", " a1 ": "a1", "": "has no token", "\n": "has no token", "a b": "has no token",
		"s3cret\nline": "has no token", "grün": "has no token", strings.Repeat("a", 5000): "has no token",
	} {
		write(t, file, text, 0o600)
		s, err := credential.NewToken(file, nil)
		if err == nil {
			assert.Equal(t, want, s.Value())
			continue
		}
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "s3cret")
	}
	write(t, file, "abc", 0o644)
	_, err := credential.NewToken(file, nil)
	require.ErrorContains(t, err, "chmod o=")
	_, err = credential.NewToken(t.TempDir(), nil)
	require.ErrorContains(t, err, "not a regular file")
}
