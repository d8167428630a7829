package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/lineage"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
)

const (
	// DefaultMaxVersions is the number of versions that a directory without settings keeps.
	DefaultMaxVersions = 15

	// DefaultMaxChain is the length of the longest chain of a directory without settings.
	DefaultMaxChain = 64

	// MaxSize bounds the bytes of settings.json.
	MaxSize = 64 << 10
)

// Settings belong to a data directory: every process that uses the directory follows them.
type Settings struct {
	// MaxVersions is the number of versions to keep, from 1 to [distfile.MaxEntries].
	MaxVersions int `json:"max_versions"`

	// MaxChain is how many versions a chain may have: a version, and those that it needs by
	// its labels. Zero means that [DefaultMaxChain] are admitted, and that longer chains are kept.
	MaxChain int `json:"max_chain,omitempty"`

	// Run is the run that new versions are of, where they are of any. Empty means any run.
	Run string `json:"run,omitempty"`

	// Pinned are the versions that are kept beside the newest ones, ascending.
	Pinned []shard.Version `json:"pinned,omitempty"`

	// Feed is the name of the list that the releases of the directory are of, and Epoch that of the
	// latest one. They are empty and 0 until the first one.
	Feed  string `json:"feed,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`

	// DeltaBases is from how many of the newest versions deltas are made of a new one, up to
	// [shard.MaxDeltas]. Zero means none.
	DeltaBases int `json:"delta_bases,omitempty"`

	// Expires is the number of seconds for which a release is valid, or -1 for ever. Zero means
	// [signing.DefaultExpires].
	Expires int64 `json:"expires,omitempty"`
}

// Validity returns how long a release is valid, or [signing.NeverExpires].
func (s Settings) Validity() time.Duration {
	return cmp.Or(time.Duration(s.Expires)*time.Second, signing.DefaultExpires)
}

// maxChain returns the length of the longest chain.
func (s Settings) maxChain() int { return cmp.Or(s.MaxChain, DefaultMaxChain) }

// keptChain is how many versions of a chain are kept. Without a setting they are as many as the publisher
// has admitted, so that a middle needs none.
func (s Settings) keptChain() int { return cmp.Or(s.MaxChain, distfile.MaxEntries) }

// Equal reports whether two settings are the same.
func (s Settings) Equal(other Settings) bool {
	return s.MaxVersions == other.MaxVersions && s.maxChain() == other.maxChain() &&
		slices.Equal(s.Pinned, other.Pinned) && s.Feed == other.Feed && s.Epoch == other.Epoch &&
		s.Validity() == other.Validity() && s.DeltaBases == other.DeltaBases && s.Run == other.Run
}

// Check returns an error if a setting is out of its range.
func (s Settings) Check() error {
	switch {
	case s.MaxVersions < 1 || s.MaxVersions > distfile.MaxEntries:
		return fmt.Errorf("max_versions is %d, want 1 to %d", s.MaxVersions, distfile.MaxEntries)
	case s.MaxChain < 0 || s.MaxChain > distfile.MaxEntries:
		return fmt.Errorf("max_chain is %d, want 1 to %d", s.MaxChain, distfile.MaxEntries)
	case s.DeltaBases < 0 || s.DeltaBases > shard.MaxDeltas:
		return fmt.Errorf("delta_bases is %d, want 0 to %d", s.DeltaBases, shard.MaxDeltas)
	case s.MaxVersions+len(s.Pinned) > distfile.MaxEntries:
		return fmt.Errorf("max_versions is %d, which with the pinned versions (%d) is more than %d",
			s.MaxVersions, len(s.Pinned), distfile.MaxEntries)
	case slices.ContainsFunc(s.Pinned, func(v shard.Version) bool { return v < 1 || v > shard.MaxVersion }) ||
		!slices.IsSorted(s.Pinned):
		return errors.New("pinned has other things than the numbers of versions, ascending")
	case s.Feed != "" && release.CheckFeed(s.Feed) != nil:
		return fmt.Errorf("feed is %.80q, which cannot name one", s.Feed)
	case s.Run != "" && CheckRun(s.Run) != nil:
		return fmt.Errorf("run is %.80q, which cannot name one", s.Run)
	case s.Epoch > release.MaxNumber:
		return fmt.Errorf("epoch is %d, want up to %d", s.Epoch, release.MaxNumber)
	case s.Expires < -1 || s.Expires > int64(signing.MaxExpires/time.Second):
		return fmt.Errorf("expires is %d, want a number of seconds up to %d, or -1", s.Expires,
			signing.MaxExpires/time.Second)
	}
	return nil
}

// Limit is the reason, for people, for which a surplus version is retired.
func (s Settings) Limit() string {
	if s.MaxVersions == 1 {
		return "more than 1 version"
	}
	return fmt.Sprintf("more than %d versions", s.MaxVersions)
}

// Parse reads the text of settings.json, of at most [MaxSize] bytes. It refuses members that it does not know:
// they may be of a later release, and forbid to retire a version.
func Parse(text []byte) (Settings, error) {
	if len(text) > MaxSize {
		return Settings{}, fmt.Errorf("it is longer than %d bytes", MaxSize)
	}
	var settings Settings
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&settings); err != nil {
		return Settings{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Settings{}, errors.New("it goes on after the settings")
	}
	if len(settings.Pinned) == 0 {
		settings.Pinned = nil
	}
	return settings, settings.Check()
}

// CheckRun returns an error unless run can be the name of one.
func CheckRun(run string) error {
	if run == "" {
		return errors.New("the name of a run is empty")
	}
	return shard.CheckLabel(lineage.Run, run)
}
