package shard_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/shardcast/shardcast/internal/shard"
)

// inMemory keeps a shard where a program would keep it in a file.
type inMemory struct{ bytes.Buffer }

func (*inMemory) Commit() error { return nil }
func (*inMemory) Close() error  { return nil }

func ExampleCut() {
	const text = "a file in three shards"
	var kept []*inMemory
	create := func(int) (shard.Writer, error) {
		kept = append(kept, &inMemory{})
		return kept[len(kept)-1], nil
	}
	m, err := shard.Cut(context.Background(), strings.NewReader(text),
		shard.Plan{Size: int64(len(text)), ShardSize: 8, Create: create})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("file:", m.Digest.String()[:8])
	for i := range m.Shards {
		s := m.Shard(i + 1)
		fmt.Printf("%s: %q from byte %2d, %s\n", shard.FileName(s.Number), kept[i], s.Offset, s.Digest.String()[:8])
	}
	// Output:
	// file: 27420a35
	// shard_001.bin: "a file i" from byte  0, 2b1f0787
	// shard_002.bin: "n three " from byte  8, 108cc62e
	// shard_003.bin: "shards" from byte 16, 5c130d83
}
