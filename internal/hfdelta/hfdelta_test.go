package hfdelta_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/hfdelta"
)

func TestTheIndexOfADirectoryHasItsNumberAndWhatItNeeds(t *testing.T) {
	for name, tc := range map[string]struct {
		text          string
		number, after int64
		refuse        string
	}{
		"a delta": {
			`{"metadata":{"version":7,"base_version":6,"delta_encoding":"xor"},"weight_map":{}}`, 7, 6, "",
		},
		"in digits": {
			`{"metadata":{"version":"000007","base_version":"000006","delta_encoding":"overwrite"}}`, 7, 6, "",
		},
		"a full version":         {`{"metadata":{"version":10,"delta_encoding":null}}`, 10, 0, ""},
		"a full one with a base": {`{"metadata":{"version":10,"base_version":9}}`, 10, 0, ""},
		"on what a run begins":   {`{"metadata":{"version":1,"base_version":0,"delta_encoding":"xor"}}`, 1, 0, ""},
		"no version":             {`{"metadata":{"total_size":1}}`, 0, 0, "no version from 1 on"},
		"no metadata":            {`{}`, 0, 0, "no version from 1 on"},
		"version 0":              {`{"metadata":{"version":0}}`, 0, 0, "no version from 1 on"},
		"another encoding": {
			`{"metadata":{"version":2,"base_version":1,"delta_encoding":"zip"}}`, 0, 0, `is "zip"`,
		},
		"a delta without a base": {`{"metadata":{"version":2,"delta_encoding":"xor"}}`, 0, 0, "no base_version"},
		"a delta of itself": {
			`{"metadata":{"version":2,"base_version":2,"delta_encoding":"xor"}}`, 0, 0, "not below",
		},
		"a fraction":              {`{"metadata":{"version":1.5}}`, 0, 0, `"1.5" is not a number`},
		"a word":                  {`{"metadata":{"version":"seven"}}`, 0, 0, `"seven" is not a number`},
		"a list":                  {`{"metadata":{"version":[7]}}`, 0, 0, "is not a number"},
		"an encoding of a number": {`{"metadata":{"version":2,"delta_encoding":1}}`, 0, 0, "cannot be read"},
		"torn":                    {`{"metadata":{"vers`, 0, 0, "cannot be read"},
		"empty":                   {``, 0, 0, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			number, after, err := hfdelta.Parse([]byte(tc.text))
			if tc.refuse != "" {
				require.ErrorContains(t, err, tc.refuse)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.number, number)
			assert.Equal(t, tc.after, after)
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"metadata":{"version":7,"base_version":"06","delta_encoding":"xor"}}`))
	f.Add([]byte(`{"metadata":{"version":""}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		number, after, err := hfdelta.Parse(text)
		if err == nil && (number < 1 || after < 0 || after >= number) {
			t.Errorf("number %d after %d", number, after)
		}
	})
}
