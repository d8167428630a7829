package shardcast

import (
	"context"
	"fmt"
	"os"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/store"
)

// Settings belong to a data directory: every origin and middle that uses the directory, in
// any process, follows them.
type Settings struct {
	// MaxVersions is the number of versions to keep, from 1 to 10,000. A directory without
	// settings keeps [DefaultMaxVersions].
	MaxVersions int `json:"max_versions"`
}

// ReadSettings returns the settings of the data directory dir. The error matches
// [ErrSettings] if their file is spoilt, and [fs.ErrNotExist] if there is no such directory.
func ReadSettings(dir string) (Settings, error) {
	settings, err := store.ReadSettings(dir)
	return Settings(settings), err
}

// ChangeSettings gives the data directory dir the settings of to that are not zero, and
// returns those before. Versions beyond a lower number to keep are retired by a server of the
// directory within a second or so, or by the next broadcast into it. The error matches
// [ErrOptions] if a setting is out of its range, and else those of [ReadSettings].
func ChangeSettings(ctx context.Context, dir string, to Settings) (before Settings, err error) {
	if to.MaxVersions < 0 || to.MaxVersions > distfile.MaxEntries {
		return Settings{}, fmt.Errorf("%w: MaxVersions: %d, want up to %d",
			ErrOptions, to.MaxVersions, distfile.MaxEntries)
	}
	// To make a directory for a mistyped name would hide the mistake.
	if _, err := os.Stat(dir); err != nil {
		return Settings{}, fmt.Errorf("data directory: %w", err)
	}
	st, err := store.Open(dir, store.Origin)
	if err != nil {
		return Settings{}, err
	}
	defer st.Close() //nolint:errcheck // all of it is on the disk already
	was, _, err := st.Change(ctx, func(s *store.Settings) {
		if to.MaxVersions != 0 {
			s.MaxVersions = to.MaxVersions
		}
	})
	return Settings(was), err
}

// ExportPython makes the directory out, which must be missing or empty, one that programs of
// the Python package 0.3 can serve and read, with the versions of the data directory dir, and
// returns their number. Shards are hard links where possible. An error leaves no directory;
// it matches [fs.ErrNotExist] if there is no dir.
func ExportPython(ctx context.Context, dir, out string) (versions int, err error) {
	if _, err := os.Stat(dir); err != nil {
		return 0, fmt.Errorf("data directory: %w", err)
	}
	st, err := store.Open(dir, store.Origin)
	if err != nil {
		return 0, err
	}
	defer st.Close() //nolint:errcheck // of what was only read
	return origin.Export(ctx, st, out)
}
