package fetch

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/shard"
)

// digests returns a digest for each letter.
func digests(letters string) []shard.Digest {
	ds := make([]shard.Digest, len(letters))
	for i := range letters {
		ds[i] = shard.Digest{letters[i]}
	}
	return ds
}

// letters is the other way round.
func letters(ds []shard.Digest) string {
	text := make([]byte, len(ds))
	for i, d := range ds {
		text[i] = d[0]
	}
	return string(text)
}

func TestGuessesAreWhatEachSaysAndThenAllMixtures(t *testing.T) {
	for name, tc := range map[string]struct {
		says []string
		want []string
	}{
		"one":                      {[]string{"abc"}, []string{"abc", "abc"}},
		"two that agree":           {[]string{"abc", "abc"}, []string{"abc", "abc", "abc"}},
		"two that differ in one":   {[]string{"abc", "xbc"}, []string{"abc", "xbc", "abc", "xbc"}},
		"two that differ in two":   {[]string{"abc", "xbz"}, []string{"abc", "xbz", "abc", "xbc", "abz", "xbz"}},
		"three that differ in one": {[]string{"ab", "xb", "yb"}, []string{"ab", "xb", "yb", "ab", "xb", "yb"}},
	} {
		t.Run(name, func(t *testing.T) {
			var says []say
			for _, s := range tc.says {
				says = append(says, say{digests: digests(s)})
			}
			var got []string
			for guess := range guesses(says) {
				got = append(got, letters(guess))
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func TestGuessesAreBounded(t *testing.T) {
	says := []say{{digests: digests("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")}, {digests: digests("bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb")}}
	count := 0
	for range guesses(says) {
		count++
	}
	assert.Equal(t, len(says)+maxGuesses, count)
}

func TestGuessesStopWhenOneIsRight(t *testing.T) {
	says := []say{{digests: digests("ab")}, {digests: digests("cd")}}
	for stop := range 6 {
		count := 0
		for range guesses(says) {
			if count++; count > stop {
				break
			}
		}
		assert.Equal(t, stop+1, count)
	}
	assert.Len(t, slices.Collect(guesses(says)), 6)
}
