package credential

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// maxToken bounds a token in bytes: some servers refuse headers that are longer.
const maxToken = 4 << 10

// tokenBytes are those of a token, see RFC 6750, section 2.1.
const tokenBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="

// NewToken returns the token in a file, which other users may not read. See [NewSource] for
// changed.
func NewToken(file string, changed func(now string, err error)) (*Source[string], error) {
	return NewSource([]string{file}, func(texts [][]byte) (string, error) {
		if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o004 != 0 && runtime.GOOS != "windows" {
			return "", fmt.Errorf("others may read it: run chmod o= %s", file)
		}
		return parseToken(file, texts[0])
	}, changed)
}

// parseToken reads a token, behind which there may be white space.
func parseToken(file string, text []byte) (string, error) {
	token := string(bytes.TrimSpace(text))
	if token == "" || len(token) > maxToken || strings.Trim(token, tokenBytes) != "" {
		return "", fmt.Errorf("%s has no token: want up to %d letters, digits and -._~+/=", file, maxToken)
	}
	return token, nil
}
