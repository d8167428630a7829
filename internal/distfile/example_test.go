package distfile_test

import (
	"fmt"
	"strings"

	"github.com/shardcast/shardcast/internal/distfile"
)

func ExampleParse() {
	text := `v2: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae|7
v1: fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9
latest: v2
`
	entries, skipped, err := distfile.Parse(strings.NewReader(text))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range entries {
		fmt.Println(e.Version, e.Digest.String()[:8], e.Count)
	}
	for _, line := range skipped {
		fmt.Println(line)
	}
	fmt.Printf("%s", distfile.Encode(entries))
	// Output:
	// v1 fcde2b2e 0
	// v2 2c26b46b 7
	// distribution.txt, line 3: "latest" is not a version: want v1, v2, v3 and so on
	// v1: fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9
	// v2: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae|7
}
