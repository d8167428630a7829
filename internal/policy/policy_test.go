package policy_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestAFreshDirectoryNeedsWhatIsKeptElsewhere(t *testing.T) {
	label := func(run, number, after string) map[string]string {
		return map[string]string{"run": run, "number": number, "after": after}
	}
	all := []map[string]string{
		label("a", "1", ""), label("b", "1", ""), label("a", "2", "1"), label("a", "2", "1"), nil, label("a", "3", "2"),
		label("b", "2", "1"),
	}
	entries := make([]distfile.Entry, len(all))
	for i := range entries {
		entries[i] = distfile.Entry{Version: shard.Version(i + 1)}
	}
	unknown, asked := shard.Version(0), 0
	labels := func(e distfile.Entry) (map[string]string, bool) {
		asked++
		return all[e.Version-1], e.Version != unknown
	}
	settings := policy.Settings{MaxVersions: 2}
	assert.Equal(t, []distfile.Entry{entries[0], entries[1], entries[3]}, settings.Needs(entries, labels))
	assert.LessOrEqual(t, asked, len(entries), "each is asked about once")
	settings.MaxChain = 2
	assert.Equal(t, []distfile.Entry{entries[1], entries[3]}, settings.Needs(entries, labels))
	unknown = 4
	assert.Empty(t, settings.Needs(entries, labels), "it may be the one that is needed")
	settings.MaxVersions, asked = 1, 0
	all[6] = nil
	assert.Empty(t, settings.Needs(entries, labels))
	assert.Equal(t, 1, asked, "of versions without labels no older one is asked about")
	settings.Pinned, unknown = []shard.Version{3}, 0
	assert.Equal(t, []distfile.Entry{entries[0]}, settings.Needs(entries, labels))
	assert.Empty(t, settings.Needs(nil, labels))
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"max_versions":15}`))
	f.Add([]byte(`{"max_versions":1e3}`))
	f.Add([]byte(`{"max_versions":15,"max_chain":64,"pinned":[1,7]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		settings, err := policy.Parse(text)
		if err != nil {
			return
		}
		require.GreaterOrEqual(t, settings.MaxVersions, 1)
		require.LessOrEqual(t, settings.MaxVersions, distfile.MaxEntries)
		written, err := json.Marshal(settings)
		require.NoError(t, err)
		again, err := policy.Parse(written)
		require.NoError(t, err)
		assert.Equal(t, settings, again)
	})
}
