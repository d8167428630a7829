package shardcast

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/inspect"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// A HeldVersion is a version on offer in a data directory.
type HeldVersion struct {
	// Version is the version, without its files.
	Version Version

	// Pinned says that it is kept beside the newest versions, see [Pin].
	Pinned bool

	// Signed says that the release of the directory lists it, with the digest of its manifest.
	Signed bool
}

// HeldVersions returns the versions on offer in the data directory dir, ascending, and makes
// nothing there. The error matches [fs.ErrNotExist] if there is no such directory.
func HeldVersions(dir string) ([]HeldVersion, error) {
	st, err := store.Read(dir)
	if err != nil {
		return nil, err
	}
	defer st.Close() //nolint:errcheck // of what was only read
	entries, err := st.Distribution()
	if err != nil {
		return nil, err
	}
	settings, err := st.Settings()
	if err != nil {
		return nil, err
	}
	signed, err := st.Released()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	held := make([]HeldVersion, len(entries))
	for i, e := range entries {
		held[i] = HeldVersion{Version: unknown(e), Pinned: slices.Contains(settings.Pinned, e.Version)}
		held[i].Signed = isSigned(st, signed, e.Version)
		f, err := st.Manifest(e.Version)
		if errors.Is(err, fs.ErrNotExist) { // of the Python package, or retired just now
			continue
		}
		if err != nil {
			return nil, err
		}
		m, err := shard.ParseManifest(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Version, err)
		}
		m.BLAKE3, _ = st.BLAKE3(e.Version) // where it is known
		held[i].Version = versionOf(e.Version, m)
	}
	return held, nil
}

// VerifyHeld reads all of a version in the data directory dir, and compares its shards with
// its manifest, the list of its files, and the digest of the whole. It makes nothing there.
// The errors of wrong are those of single files, each of which it names; err says why the
// version could not be verified. It matches [ErrNoVersion] if the version is not on offer,
// [ErrOptions] if version is no version's name, and [fs.ErrNotExist] if there is no dir.
func VerifyHeld(ctx context.Context, dir, version string) (v Version, wrong []error, err error) {
	number, err := parseVersion(version)
	if err != nil {
		return Version{}, nil, err
	}
	st, err := store.Read(dir)
	if err != nil {
		return Version{}, nil, err
	}
	defer st.Close() //nolint:errcheck // of what was only read
	entries, err := st.Distribution()
	if err != nil {
		return Version{}, nil, err
	}
	i := slices.IndexFunc(entries, func(e distfile.Entry) bool { return e.Version == number })
	if i < 0 {
		return Version{}, nil, fmt.Errorf("%w: %s in %s", ErrNoVersion, version, dir)
	}
	m, wrong, err := inspect.Version(ctx, st, entries[i])
	v = versionOf(number, m)
	if m.Shards == nil && m.Size == 0 {
		v = unknown(entries[i])
	}
	return v, wrong, err
}

// Pin has a version of the data directory dir kept beside the newest ones, whose number is not
// changed by it. The error matches [ErrNoVersion] if the version is not on offer there,
// [ErrOptions] if version is no version's name, and else those of [ReadSettings].
func Pin(ctx context.Context, dir, version string) error {
	return pin(ctx, dir, version, (*store.Store).Pin)
}

// Unpin ends a [Pin]. If the version is kept for no other reason, a server of the directory
// retires it within a second or so, or else the next broadcast does. The error matches
// [ErrNoVersion] if the version is not pinned, and else those of [Pin].
func Unpin(ctx context.Context, dir, version string) error {
	return pin(ctx, dir, version, (*store.Store).Unpin)
}

func pin(
	ctx context.Context, dir, version string, change func(*store.Store, context.Context, shard.Version) error,
) error {
	number, err := parseVersion(version)
	if err != nil {
		return err
	}
	st, err := openExisting(dir)
	if err != nil {
		return err
	}
	defer st.Close() //nolint:errcheck // all of it is on the disk already
	return change(st, ctx, number)
}

// Republish publishes a version of the data directory once more, under the next number, whose
// name it returns: without a new manifest, and without another copy of its bytes where the file
// system has hard links. Errors match [ErrNoVersion] if the version is not on offer, and else
// are those of [Origin.Broadcast].
func (o *Origin) Republish(ctx context.Context, version string) (again string, err error) {
	number, err := parseVersion(version)
	if err != nil {
		return "", err
	}
	v, err := o.origin.Republish(ctx, number)
	if err != nil {
		return "", feedError(err)
	}
	return v.String(), nil
}

// Withdraw declares a version of the data directory bad. It is off the offer and off the disk at
// once; middles take it away, too, and those that follow go back to the version that they had
// before. The error matches [ErrNoVersion] if the version is not on offer.
func (o *Origin) Withdraw(ctx context.Context, version string) error {
	number, err := parseVersion(version)
	if err != nil {
		return err
	}
	return feedError(o.origin.Withdraw(ctx, number))
}

// parseVersion reads the name of a version, such as "v1".
func parseVersion(name string) (shard.Version, error) {
	number, err := shard.ParseVersion(name)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return number, nil
}
