package cli_test

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/cli"
)

func TestDeltaFlagsSayFromHowManyVersions(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want int
	}{
		{nil, 0},
		{[]string{"--delta"}, 1},
		{[]string{"--delta=on"}, 1},
		{[]string{"--delta=off"}, -1},
		{[]string{"--delta=false"}, -1},
		{[]string{"--delta-bases", "3"}, 3},
		{[]string{"--delta", "--delta-bases", "3"}, 3},
		{[]string{"--delta=off", "--delta-bases", "3"}, -1},
	} {
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		d := cli.DeltaFlags(flags, false)
		require.NoError(t, flags.Parse(tc.args))
		assert.Equal(t, tc.want, d.Bases(), "%v", tc.args)
	}
	setting := pflag.NewFlagSet("", pflag.ContinueOnError)
	d := cli.DeltaFlags(setting, true)
	require.NoError(t, setting.Parse([]string{"--delta", "on"}))
	assert.Equal(t, 1, d.Bases())
	require.ErrorContains(t, setting.Parse([]string{"--delta", "maybe"}), "want on or off")
}
