package verify_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/verify"
)

func ExampleVerifier() {
	data := []byte("all of the bytes")
	m := shard.Manifest{
		Size: 16, ShardSize: 16, Digest: sha256.Sum256(data), Shards: []shard.Digest{sha256.Sum256(data)},
	}
	v := verify.New(verify.Options{Manifest: m, Listed: m.Digest})
	arrived := []byte("all of the bytez") // from one server
	c := v.Began(m.Shard(1), bytes.NewReader(arrived), 0)
	c.Wrote(verify.Sender{Name: "http://far.example"}, 0, arrived)
	c.Part()
	for verdict, err := range v.Came(context.Background(), c, make([]byte, 64)) {
		fmt.Println(verdict.Right, verdict.Blame, err)
	}
	// Output:
	// false [http://far.example] <nil>
}
