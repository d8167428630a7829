package shardcast

import (
	"cmp"
	"context"
	"fmt"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/origin"
	"github.com/shardcast/shardcast/internal/policy"
	"github.com/shardcast/shardcast/internal/store"
)

// Settings belong to a data directory: every origin and middle that uses the directory, in
// any process, follows them.
type Settings struct {
	// MaxVersions is the number of versions to keep, from 1 to 10,000. A directory without
	// settings keeps [DefaultMaxVersions].
	MaxVersions int `json:"max_versions"`

	// MaxChain is how many versions a chain may have, from 1 to 10,000: a version, and those
	// that it needs by its labels run, number and after, which are kept as long as it is. A
	// directory without settings allows 64, and one of a middle as many as upstreams list.
	MaxChain int `json:"max_chain"`

	// DeltaBases is from how many of the newest versions deltas are made of a new one, from 1 to 64.
	// Zero means that none are made, see [BroadcastOptions].
	DeltaBases int `json:"delta_bases"`

	// Pinned are the names of the versions that are kept beside the newest ones, ascending.
	// See [Pin].
	Pinned []string `json:"pinned,omitempty"`

	// Run is the run that [Origin.NewRun] has begun, and empty before.
	Run string `json:"run,omitempty"`

	// Feed names the signed list of the directory's versions, Epoch is its epoch, and Expires how
	// long a signature is valid, such as "168h0m0s", or "never". They are empty and 0 where nothing is
	// signed. See [SignOptions].
	Feed    string `json:"feed,omitempty"`
	Epoch   uint64 `json:"epoch,omitempty"`
	Expires string `json:"expires,omitempty"`
}

// settingsOf converts the settings of a data directory.
func settingsOf(s policy.Settings) Settings {
	of := Settings{
		MaxVersions: s.MaxVersions, MaxChain: cmp.Or(s.MaxChain, policy.DefaultMaxChain), DeltaBases: s.DeltaBases,
		Run: s.Run,
	}
	for _, v := range s.Pinned {
		of.Pinned = append(of.Pinned, v.String())
	}
	if s.Feed != "" {
		of.Feed, of.Epoch, of.Expires = s.Feed, s.Epoch, s.Validity().String()
		if s.Validity() == NeverExpires {
			of.Expires = "never"
		}
	}
	return of
}

// ReadSettings returns the settings of the data directory dir. The error matches
// [ErrSettings] if their file is spoilt, and [fs.ErrNotExist] if there is no such directory.
func ReadSettings(dir string) (Settings, error) {
	settings, err := store.ReadSettings(dir)
	if err != nil {
		return Settings{}, err
	}
	return settingsOf(settings), nil
}

// ChangeSettings gives the data directory dir the numbers of to that are not zero, for DeltaBases a
// negative one for none, and returns those before. Versions beyond a lower number to keep are retired by a
// server of the directory within a second or so, or by the next broadcast into it, which alone can where
// versions are signed and the server has no key. The error matches
// [ErrOptions] if a setting is out of its range, and else those of [ReadSettings].
func ChangeSettings(ctx context.Context, dir string, to Settings) (before Settings, err error) {
	for name, number := range map[string]int{"MaxVersions": to.MaxVersions, "MaxChain": to.MaxChain} {
		if number < 0 || number > distfile.MaxEntries {
			return Settings{}, fmt.Errorf("%w: %s: %d, want up to %d", ErrOptions, name, number, distfile.MaxEntries)
		}
	}
	if err := checkDeltaBases("", to.DeltaBases); err != nil {
		return Settings{}, err
	}
	st, err := openExisting(dir)
	if err != nil {
		return Settings{}, err
	}
	defer st.Close() //nolint:errcheck // all of it is on the disk already
	was, _, err := st.Change(ctx, func(s *policy.Settings) {
		s.MaxVersions = cmp.Or(to.MaxVersions, s.MaxVersions)
		s.MaxChain = cmp.Or(to.MaxChain, s.MaxChain)
		s.DeltaBases = max(cmp.Or(to.DeltaBases, s.DeltaBases), 0)
	})
	if err != nil {
		return Settings{}, err
	}
	return settingsOf(was), nil
}

// openExisting opens the data directory dir. The error matches [fs.ErrNotExist] if there is no
// such directory: to make one for a mistyped name would hide the mistake.
func openExisting(dir string) (*store.Store, error) {
	there, err := store.Read(dir)
	if err != nil {
		return nil, err
	}
	if err := there.Close(); err != nil {
		return nil, err
	}
	return store.Open(dir, store.Origin)
}

// ExportPython makes the directory out, which must be missing or empty, one that programs of
// the Python package 0.3 can serve and read, with the versions of the data directory dir, and
// returns their number. Shards are hard links where possible. An error leaves no directory;
// it matches [fs.ErrNotExist] if there is no dir.
func ExportPython(ctx context.Context, dir, out string) (versions int, err error) {
	st, err := openExisting(dir)
	if err != nil {
		return 0, err
	}
	defer st.Close() //nolint:errcheck // of what was only read
	return origin.Export(ctx, st, out)
}
