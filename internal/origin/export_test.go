package origin

import (
	"context"

	"github.com/shardcast/shardcast/internal/shard"
)

// BroadcastAfter broadcasts the file at path, and calls between once the file is open and
// before its first byte is read.
func (o *Origin) BroadcastAfter(ctx context.Context, path string, between func()) (shard.Version, error) {
	src, err := open(path, Options{})
	if err != nil {
		return 0, err
	}
	defer src.file.Close()
	between()
	got, err := o.broadcast(ctx, src, nil)
	return got.Version, err
}
