package origin

import (
	"context"

	"github.com/shardcast/shardcast/internal/shard"
)

// BroadcastAfter broadcasts the file at path, and calls between once the file is open and
// before its first byte is read.
func (o *Origin) BroadcastAfter(ctx context.Context, path string, between func()) (shard.Version, error) {
	return o.broadcast(ctx, path, terms{accept: func(*source) error {
		between()
		return nil
	}})
}
