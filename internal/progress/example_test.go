package progress_test

import (
	"os"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/progress"
)

func ExampleWriteVersion() {
	_ = progress.WriteVersion(os.Stdout, shardcast.Version{
		Name: "v1", Size: -1, ShardSize: -1, Shards: 4, // from a server of the Python package
		Digest: "023bf2b24d272221f35bd7d6c4afdf80",
	}, shardcast.Release{})
	// Output: {"version":"v1","shard_count":4,"digest":"023bf2b24d272221f35bd7d6c4afdf80"}
}
