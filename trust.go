package shardcast

import (
	"fmt"
	"log/slog"

	"github.com/shardcast/shardcast/internal/fetch"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/trust"
)

// TrustOptions name the publisher whose word counts: the releases that it signs say which versions
// there are, whichever server sends them. The zero value has count what servers list.
type TrustOptions struct {
	// Keys are the publisher's public keys, each as text, such as "RWQ...", or as the name of its
	// file. A release that any of them has signed counts.
	Keys []string

	// Feed is the list of versions to follow, of those that the keys sign. It goes with Keys.
	Feed string

	// StateDir is the directory where the newest release is remembered, so that no server can pass
	// an older one off as the newest after a restart. One may serve several processes. Empty means
	// shardcast in $XDG_STATE_HOME, or ~/.local/state/shardcast; of a [Middle], its data directory.
	StateDir string
}

// isSet reports whether o names a publisher.
func (o TrustOptions) isSet() bool { return len(o.Keys) > 0 }

// keeper returns the Keeper of o, which remembers in the directory state unless o has another one, or
// nil if o names no publisher. Errors match [ErrOptions].
func (o TrustOptions) keeper(state string, logger *slog.Logger) (*trust.Keeper, error) {
	switch {
	case !o.isSet() && o.Feed != "":
		return nil, fmt.Errorf("%w: Trust.Feed: it needs a key (--key) that signs the feed", ErrOptions)
	case !o.isSet() && o.StateDir != "":
		return nil, fmt.Errorf("%w: Trust.StateDir: there is no state without a key (--key)", ErrOptions)
	case !o.isSet():
		return nil, nil //nolint:nilnil // what servers list counts
	case o.Feed == "":
		return nil, fmt.Errorf("%w: Trust.Keys: a key needs the feed (--feed) that it signs; "+
			"shardcast-origin keygen has printed both", ErrOptions)
	}
	keys := make([]release.PublicKey, len(o.Keys))
	for i, text := range o.Keys {
		key, err := release.ReadPublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("%w: Trust.Keys: %w", ErrOptions, err)
		}
		keys[i] = key
	}
	if o.StateDir != "" {
		state = o.StateDir
	}
	if state == "" {
		logger.Warn("no place for the state, so nothing is known of the past: give --state-dir, or set XDG_STATE_HOME")
	}
	keeper, err := trust.Open(trust.Options{Keys: keys, Feed: o.Feed, Dir: state, Logger: logger})
	if err != nil {
		return nil, fmt.Errorf("%w: Trust.%w", ErrOptions, err)
	}
	return keeper, nil
}

// Errors of releases, beside [ErrOptions].
var (
	// ErrNotTrusted means that servers do not have the word of the publisher whose keys are given:
	// no release that one of them has signed, another manifest than it lists, or a version that it
	// does not list.
	ErrNotTrusted = fetch.ErrNotTrusted

	// ErrExpired means that the newest release of the publisher says nothing about the present any
	// more: no server has a newer one, or the clock is wrong.
	ErrExpired = fetch.ErrExpired
)

// Release returns the newest release of the publisher that the client knows. It asks no server, as
// [Client.List] does. The error matches [ErrNotTrusted] if there is none, [ErrExpired] beside one
// that has expired, and [ErrOptions] without keys.
func (c *Client) Release() (Release, error) {
	if c.keeper == nil {
		return Release{}, fmt.Errorf("%w: Trust.Keys: without a key no release counts", ErrOptions)
	}
	newest, ok := c.keeper.Newest()
	if !ok {
		return Release{}, c.keeper.Check()
	}
	return releaseOf(newest), c.keeper.Check()
}
