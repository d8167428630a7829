package match_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/shardcast/shardcast/internal/delta/match"
)

func ExampleStreams() {
	base := random(1, 100_000)
	target := join(base[:40_000], []byte("something new"), base[60_000:])
	copies, err := match.Streams(context.Background(), bytes.NewReader(base), bytes.NewReader(target))
	if err != nil {
		panic(err)
	}
	for _, c := range copies {
		fmt.Println("bytes of the target from", c.Offset, "are those from", c.Base, "of the base:", c.Size)
	}
	// Output:
	// bytes of the target from 0 are those from 0 of the base: 40000
	// bytes of the target from 40013 are those from 60000 of the base: 40000
}
