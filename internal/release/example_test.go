package release_test

import (
	"fmt"
	"time"

	"github.com/shardcast/shardcast/internal/release"
)

func ExampleParse() {
	private, err := release.GenerateKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, time.November, 29, 12, 0, 0, 0, time.UTC)
	list := release.Release{
		Feed: "weights.example.org/llama", Epoch: 1, Seq: uint64(now.UnixMilli()), Issued: now,
		Entries: []release.Entry{{Version: 1, Size: 120_000_000}},
	}
	signed, err := list.Sign(private)
	if err != nil {
		fmt.Println(err)
		return
	}
	// The bytes travel, and a reader has the public key.
	received, err := release.Parse(signed.Bytes())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(received.Verify(private.Public()), received.Release.Entries[0].Version)
	// Output: <nil> v1
}
