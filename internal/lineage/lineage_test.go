package lineage_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/lineage"
)

func ExampleNeedOf() {
	labels := map[string]string{"run": "a", "number": "7", "after": "6"}
	place, _ := lineage.PlaceOf(labels)
	need, _ := lineage.NeedOf(labels)
	fmt.Printf("%s needs %s\n", place, need)
	// Output: number 7 of run a needs number 6 of run a
}

func TestLabelsThatMakeNoPlaceAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		labels map[string]string
		refuse string
	}{
		"none":                  {nil, ""},
		"others":                {map[string]string{"step": "07", "run": "a/b c"}, ""},
		"all":                   {map[string]string{"run": "a", "number": "999999999999999999", "after": "1"}, ""},
		"without a run":         {map[string]string{"number": "1"}, ""},
		"a word":                {map[string]string{"number": "seven"}, `number is "seven"`},
		"zero":                  {map[string]string{"number": "0"}, `number is "0"`},
		"empty":                 {map[string]string{"number": ""}, `number is ""`},
		"a leading zero":        {map[string]string{"number": "1", "after": "07"}, `after is "07"`},
		"a sign":                {map[string]string{"number": "+1"}, `number is "\+1"`},
		"too large":             {map[string]string{"number": "1000000000000000000"}, "number is"},
		"after without a place": {map[string]string{"run": "a", "after": "1"}, "wants the label number"},
	} {
		t.Run(name, func(t *testing.T) {
			err := lineage.Check(tc.labels)
			if tc.refuse == "" {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			assert.Regexp(t, tc.refuse, err.Error())
		})
	}
}

func TestNumbersMayBePadded(t *testing.T) {
	for text, want := range map[string]int64{
		"7": 7, "000007": 7, "0": 0, "000": 0, "000999999999999999999": lineage.MaxNumber,
	} {
		n, err := lineage.ParseNumber(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, n, text)
	}
	for _, text := range []string{"", "-1", "1.0", "1e3", "1000000000000000000", " 7"} {
		_, err := lineage.ParseNumber(text)
		require.Error(t, err, text)
	}
}

func TestOtherLabelsMakeNoPlace(t *testing.T) {
	all := map[string]string{"run": "a", "number": "7", "after": "6", "step": "1200"}
	assert.Equal(t, map[string]string{"run": "a", "number": "7", "after": "6"}, lineage.Labels(all))
	assert.Nil(t, lineage.Labels(map[string]string{"step": "1200"}))
}
