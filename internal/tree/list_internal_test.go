package tree

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzParseLine holds that the short way to read a line reads nothing that encoding/json reads as
// something else, or refuses.
func FuzzParseLine(f *testing.F) {
	const digest = `"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"`
	for _, line := range []string{
		`{"path":"a/b","size":812,"offset":512,"digest":` + digest + `}`,
		`{"path":"é","size":0,"offset":0,"digest":` + digest + `,"executable":true}`,
		`{"path":"logs","directory":true}`,
		`{"path":"a","size":01,"offset":-1,"digest":` + digest + `}`,
		`{"path":"a","size":9223372036854775808,"offset":1,"digest":` + digest + `}`,
		`{"path":"a\u0062","size":1,"offset":1,"digest":` + digest + `}`,
		"{\"path\":\"\xff\",\"size\":1,\"offset\":1,\"digest\":" + digest + `}`,
		"{\"path\":\"\x7f\t\",\"size\":1,\"offset\":1,\"digest\":" + digest + `}`,
		`{"path":"a","size":1,"offset":1,"digest":` + digest + `} `,
		`{"path":"a","size":1,"offset":1,"digest":"0"}`,
		`{"path":"a","size":-0,"offset":1,"digest":` + digest + `}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got, ok := parsePlain(line)
		if !ok {
			return
		}
		want, err := parseJSON(line)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	})
}

func TestLinesThatWeWriteAreReadTheShortWay(t *testing.T) {
	laid, err := Lay([]File{
		{Path: "a/é b", Size: 812, Executable: true}, {Path: "b", Directory: true}, {Path: "c", Size: 1 << 40},
	})
	require.NoError(t, err)
	for f := range laid.Files() {
		laid, err := Lay([]File{f})
		require.NoError(t, err)
		text := laid.Encode()
		got, ok := parsePlain(text[:len(text)-1])
		assert.True(t, ok, "%s", text)
		assert.Equal(t, laid.File(0), got)
	}
}
