package server

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/shard"
)

func FuzzListsTag(f *testing.F) {
	for _, list := range []string{"", "*", `"a", W/"b"`, `W/W/"`, `",,"`, `"\"`, strings.Repeat(`"",`, 1000)} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		digest := shard.Digest{1, 2, 3}
		if strings.Contains(list, digest.String()) {
			t.Skip()
		}
		require.False(t, listsTag(list, digest.String()))
		require.True(t, listsTag(`"`+digest.String()+`", `+list, digest.String()))
		require.True(t, listsTag(` , W/"`+digest.String()+`"`+list, digest.String()))
	})
}
