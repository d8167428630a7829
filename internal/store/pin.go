package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/shard"
)

// Pin has the version v, which is on offer, kept beside the newest ones. The error matches
// [shard.ErrNoVersion] if it is not.
func (s *Store) Pin(ctx context.Context, v shard.Version) error {
	return s.pin(ctx, func(settings *policy.Settings) error {
		offered, err := s.Distribution()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(offered, func(e distfile.Entry) bool { return e.Version == v }) {
			return fmt.Errorf("pin %s: %w in %s", v, shard.ErrNoVersion, s.dir)
		}
		if at, found := slices.BinarySearch(settings.Pinned, v); !found {
			settings.Pinned = slices.Insert(settings.Pinned, at, v)
		}
		return nil
	})
}

// Unpin ends a [Store.Pin]. A version that is kept for no other reason is retired by the next
// [Writer.Publish] or [Writer.Trim]. The error matches [shard.ErrNoVersion] if v is not
// pinned.
func (s *Store) Unpin(ctx context.Context, v shard.Version) error {
	return s.pin(ctx, func(settings *policy.Settings) error {
		at, found := slices.BinarySearch(settings.Pinned, v)
		if !found {
			return fmt.Errorf("unpin %s: %w among those that are pinned in %s", v, shard.ErrNoVersion, s.dir)
		}
		settings.Pinned = slices.Delete(settings.Pinned, at, at+1)
		return nil
	})
}

// pin has edit change the pinned versions, while none is retired.
func (s *Store) pin(ctx context.Context, edit func(*policy.Settings) error) error {
	var refused error
	_, _, err := s.Change(ctx, func(settings *policy.Settings) { refused = edit(settings) })
	return cmp.Or(refused, err)
}
