package shard_test

import (
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

var errBroken = errors.New("broken")

var data = shard.Shard{Number: 7, Size: 4, Digest: sha256.Sum256([]byte("data"))}

func TestVerifyTakesTheBytesOfTheShardAndNoOthers(t *testing.T) {
	for name, tc := range map[string]struct {
		body io.Reader
		want error
	}{
		"exact":                {strings.NewReader("data"), nil},
		"exact, byte by byte":  {iotest.OneByteReader(strings.NewReader("data")), nil},
		"exact, end with data": {iotest.DataErrReader(strings.NewReader("data")), nil},
		"nothing":              {strings.NewReader(""), shard.ErrSize},
		"too short":            {strings.NewReader("dat"), shard.ErrSize},
		"too long":             {strings.NewReader("data!"), shard.ErrSize},
		"too long, in pieces":  {iotest.OneByteReader(strings.NewReader("datadata")), shard.ErrSize},
		"endless":              {endless('d'), shard.ErrSize},
		"flipped bit":          {strings.NewReader("dbta"), shard.ErrDigest},
		"another order":        {strings.NewReader("atad"), shard.ErrDigest},
		"zeros":                {io.LimitReader(endless(0), 4), shard.ErrDigest},
		"broken at once":       {iotest.ErrReader(errBroken), errBroken},
		"broken after it all":  {io.MultiReader(strings.NewReader("data"), iotest.ErrReader(errBroken)), errBroken},
		"broken off": {
			io.MultiReader(strings.NewReader("da"), iotest.ErrReader(io.ErrUnexpectedEOF)),
			io.ErrUnexpectedEOF,
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, data.Verify(tc.body, make([]byte, 3)), tc.want)
		})
	}
}

func TestVerifyUsesTheBufferItIsGiven(t *testing.T) {
	buf := make([]byte, 16)
	require.NoError(t, data.Verify(strings.NewReader("data"), buf),
		"strings.Reader could write itself, past the buffer")
	assert.Equal(t, "data", string(buf[:4]))
}

func TestCheckRefusesTheFirstByteTooMany(t *testing.T) {
	c := shard.NewCheck(data)
	n, err := c.Write([]byte("data"))
	require.NoError(t, err)
	require.Equal(t, 4, n)
	n, err = c.Write([]byte("!"))
	require.ErrorIs(t, err, shard.ErrSize)
	assert.Zero(t, n)
	require.ErrorIs(t, c.Close(), shard.ErrSize, "a shard that was too long stays so")
}

func TestCheckOfDifferentWritesIsThatOfTheirConcatenation(t *testing.T) {
	for name, parts := range map[string][]string{
		"at once":      {"data"},
		"in two":       {"da", "ta"},
		"with nothing": {"", "d", "", "ata", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := shard.NewCheck(data)
			for _, part := range parts {
				_, err := io.WriteString(c, part)
				require.NoError(t, err)
			}
			require.NoError(t, c.Close())
		})
	}
}

func TestCheckNamesTheShard(t *testing.T) {
	require.ErrorContains(t, shard.NewCheck(data).Close(), "shard 7")
	require.ErrorContains(t, data.Verify(strings.NewReader("DATA"), make([]byte, 8)), data.Digest.String())
}
