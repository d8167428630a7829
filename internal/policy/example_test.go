package policy_test

import (
	"fmt"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/policy"
)

func ExampleSettings_Surplus() {
	settings, err := policy.Parse([]byte(`{"max_versions": 1, "pinned": [1]}`))
	if err != nil {
		panic(err)
	}
	// v4 needs v3, and v2 is needed by none.
	labels := map[string]map[string]string{
		"v3": {"run": "a", "number": "1"},
		"v4": {"run": "a", "number": "2", "after": "1"},
	}
	of := func(e distfile.Entry) map[string]string { return labels[e.Version.String()] }
	offer := []distfile.Entry{{Version: 1}, {Version: 2}, {Version: 3}, {Version: 4}}
	fmt.Println(settings.Surplus(offer, nil, of))
	fmt.Println(settings.Admit("data", offer, map[string]string{"run": "a", "number": "4", "after": "3"}, of) != nil)
	// Output:
	// [v2]
	// true
}
