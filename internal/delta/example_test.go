package delta_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/shardcast/shardcast/internal/delta"
)

func ExampleEncode() {
	ctx := context.Background()
	base, target := []byte("abcdefgh"), []byte("abddefgh!")

	var encoded bytes.Buffer
	stats, err := delta.Encode(ctx, &encoded, bytes.NewReader(base), bytes.NewReader(target), []delta.Copy{{Size: 8}})
	if err != nil {
		panic(err)
	}
	fmt.Println("bytes predicted wrong:", stats.Changed, "not predicted:", stats.Literal)

	d, err := delta.NewReader(&encoded)
	if err != nil {
		panic(err)
	}
	fmt.Println("for a base of", d.Header().BaseSize, "and a target of", d.Header().TargetSize)
	out := &place{data: make([]byte, d.Header().TargetSize), seen: map[int64]bool{}}
	if err := d.Apply(ctx, bytes.NewReader(base), out, delta.Progress{}); err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", out.data)
	// Output:
	// bytes predicted wrong: 2 not predicted: 1
	// for a base of 8 and a target of 9
	// abddefgh!
}
