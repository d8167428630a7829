package signing_test

import (
	"fmt"
	"os"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
)

func Example() {
	key, err := release.GenerateKey()
	if err != nil {
		panic(err)
	}
	state, err := os.MkdirTemp("", "state")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(state) }()
	opts := signing.Options{Key: key, Feed: "weights.example.org/llama", StateDir: state}
	signer, err := signing.New(signing.Directory{Name: "data"}, opts, false)
	if err != nil {
		panic(err)
	}
	number := signer.Number() // which a writer keeps on the disk before the signature is made
	lines := []release.Entry{{Version: 1, Size: 5}, {Version: 2, Size: 7}}
	signed, err := signer.Sign(lines, nil, signing.DefaultExpires)
	if err != nil {
		panic(err)
	}
	signer.Published(signed)
	fmt.Println(signed.Release.Feed, signed.Release.Epoch, signed.Release.Seq == number, signed.Verify(key.Public()))

	// v2 is withdrawn.
	signer.Number()
	signed, err = signer.Sign(lines[:1], []shard.Version{2}, signing.DefaultExpires)
	if err != nil {
		panic(err)
	}
	for _, e := range signed.Release.Entries {
		fmt.Println(e.Version, e.Withdrawn)
	}

	// A copy of the directory knows nothing of that.
	_, err = signing.New(signing.Directory{Name: "copy", Feed: opts.Feed, Epoch: 1, Seq: 1}, opts, false)
	fmt.Println(err != nil)
	// Output:
	// weights.example.org/llama 1 true <nil>
	// v1 false
	// v2 true
	// true
}
