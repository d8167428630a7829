package remote

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseContentRange(t *testing.T) {
	for text, want := range map[string][2]int64{
		"bytes 5-9/20": {5, 20},
		"bytes 0-0/1":  {0, 1},
		"bytes 5-9/*":  {5, -1},
		"bytes 0-9223372036854775806/9223372036854775807": {0, 9223372036854775807},
	} {
		from, size, err := parseContentRange(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, [2]int64{from, size}, text)
	}
	for _, text := range []string{
		"", "bytes", "bytes ", "bytes */20", "bytes -9/20", "bytes 5-9", "bytes 5-9/", "bytes x-9/20", "bytes 5-9/x",
		"bytes -5-9/20", "bytes 99999999999999999999-9/20", "bytes 5-9/99999999999999999999", "kilobytes 5-9/20",
		"bytes=5-9/20",
		"bytes 5-9/20/20", "bytes  5-9/20",
	} {
		_, _, err := parseContentRange(text)
		require.ErrorContains(t, err, "cannot be read", text)
		assert.Less(t, len(err.Error()), 200)
	}
}
