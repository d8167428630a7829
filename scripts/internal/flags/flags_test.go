package flags_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/scripts/internal/flags"
)

func TestBytesAreWrittenAsTheyAreRead(t *testing.T) {
	for text, want := range map[string]flags.Bytes{
		"1GiB": 1 << 30, "50MB": 50_000_000, "12345": 12345, "200MB": 200_000_000,
	} {
		var b flags.Bytes
		require.NoError(t, b.Set(text))
		assert.Equal(t, want, b)
		assert.Equal(t, text, b.String())
	}
	var b flags.Bytes
	require.Error(t, b.Set("much"))
}

func TestNumbers(t *testing.T) {
	var n flags.Numbers
	require.NoError(t, n.Set("10,1,10"))
	assert.Equal(t, "1,10", n.String())
	require.Error(t, n.Set("1,,2"))
	require.Error(t, n.Set("0"))
}
