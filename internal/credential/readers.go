package credential

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	// MaxReaders bounds the tokens of a file: each request is compared with all of them.
	MaxReaders = 1000

	// maxName bounds a name in bytes.
	maxName = 48

	// adminWord is the third word on the line of an administrator's token.
	adminWord = "admin"
)

// A Reader is the bearer of a token.
type Reader struct {
	// Name is as its line has it. Several tokens may have the same name, such as an old and a
	// new one.
	Name string

	// Admin means that the reader may see the inside of the server, too.
	Admin bool
}

// Readers are those that a file of tokens names. The zero value has none.
type Readers struct{ tokens []readerToken }

type readerToken struct {
	reader Reader
	digest [sha256.Size]byte
}

// Find returns the reader with a token. It takes as long for one that is nearly right as for
// any other.
func (r Readers) Find(token string) (found Reader, ok bool) {
	digest := sha256.Sum256([]byte(token))
	at := -1
	for i := range r.tokens {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(r.tokens[i].digest[:], digest[:]), i, at)
	}
	if at < 0 {
		return Reader{}, false
	}
	return r.tokens[at].reader, true
}

// NewReaders returns the readers that a file names. Each line has a name, the SHA-256 of a
// token in hex and, for an administrator, the word admin; lines that are empty or begin with #
// do not count. One bad line refuses the whole file. See [NewSource] for changed.
func NewReaders(file string, changed func(now Readers, err error)) (*Source[Readers], error) {
	return NewSource([]string{file}, func(texts [][]byte) (Readers, error) {
		return parseReaders(file, texts[0])
	}, changed)
}

func parseReaders(file string, text []byte) (Readers, error) {
	var r Readers
	for i, line := range bytes.Split(text, []byte("\n")) {
		words := strings.Fields(string(line))
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		token, err := parseReader(words)
		for _, other := range r.tokens {
			if err == nil && other.digest == token.digest {
				err = fmt.Errorf("the token of %s stands here again", other.reader.Name)
			}
		}
		if err == nil && len(r.tokens) == MaxReaders {
			err = fmt.Errorf("more than %d tokens", MaxReaders)
		}
		if err != nil {
			return Readers{}, fmt.Errorf("%s, line %d: %w", file, i+1, err)
		}
		r.tokens = append(r.tokens, token)
	}
	if len(r.tokens) == 0 {
		return Readers{}, fmt.Errorf("%s has no token, so that nothing could be read", file)
	}
	return r, nil
}

// parseReader reads the words of a line. An error shows only the name: a token may stand where
// its digest belongs.
func parseReader(words []string) (t readerToken, err error) {
	t.reader = Reader{Name: words[0], Admin: len(words) == 3 && words[2] == adminWord}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@-"
	switch {
	case len(words) > 3 || len(words) == 3 && !t.reader.Admin:
		return t, errors.New("want a name, a SHA-256 and, for an administrator, the word admin")
	case len(words[0]) > maxName || strings.Trim(words[0], letters) != "" || words[0][0] == '-':
		return t, fmt.Errorf("a name has up to %d letters, digits and ._@-, and does not begin with -", maxName)
	case len(words) == 1:
		return t, fmt.Errorf("the SHA-256 of the token of %s is missing", words[0])
	}
	digest, err := hex.DecodeString(words[1])
	if err != nil || len(digest) != sha256.Size {
		return t, fmt.Errorf("%s has no SHA-256 of a token in 64 hex digits", words[0])
	}
	t.digest = [sha256.Size]byte(digest)
	return t, nil
}
