package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/signing"
)

const (
	settingsName = private + "/settings.json"
	settingsLock = private + "/settings.lock"

	// maxSettings bounds the bytes of settings.json.
	maxSettings = 64 << 10

	// settingsPatience is how long a change of the settings waits for another one.
	settingsPatience = 10 * time.Second

	// settingsInterval is the pause between two looks of [Store.FollowSettings].
	settingsInterval = time.Second
)

const (
	// DefaultMaxVersions is the number of versions that a directory without settings keeps.
	DefaultMaxVersions = 15

	// DefaultMaxChain is the length of the longest chain of a directory without settings.
	DefaultMaxChain = 64
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

// Validity returns how long the next release of the directory is valid, or [signing.NeverExpires].
func (s *Store) Validity() (time.Duration, error) {
	settings, err := s.Settings()
	if s.signing != nil && s.signing.Expires != 0 {
		return s.signing.Expires, err
	}
	return settings.Validity(), err
}

// Equal reports whether two settings are the same.
func (s Settings) Equal(other Settings) bool {
	return s.MaxVersions == other.MaxVersions && s.maxChain() == other.maxChain() &&
		slices.Equal(s.Pinned, other.Pinned) && s.Feed == other.Feed && s.Epoch == other.Epoch &&
		s.Validity() == other.Validity() && s.DeltaBases == other.DeltaBases && s.Run == other.Run
}

// check refuses settings that are out of their range.
func (s Settings) check() error {
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

// limit is the reason for which a surplus version is retired.
func (s Settings) limit() string {
	if s.MaxVersions == 1 {
		return "more than 1 version"
	}
	return fmt.Sprintf("more than %d versions", s.MaxVersions)
}

// ErrSettings means that settings.json has been spoilt. Until it is mended, no version is
// published or retired.
var ErrSettings = errors.New("the settings of the data directory are not valid")

// ReadSettings returns those of the data directory dir, see [Store.Settings], and makes
// nothing there. The error matches [fs.ErrNotExist] if there is no such directory.
func ReadSettings(dir string) (Settings, error) {
	s, err := Read(dir)
	if err != nil {
		return Settings{}, err
	}
	defer s.root.Close()
	return s.Settings()
}

// Settings returns those of the directory as they are now, and the defaults where there are
// none. The error matches [ErrSettings] if their file is spoilt.
func (s *Store) Settings() (Settings, error) {
	f, err := s.openRegular(settingsName)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = s.root.Lstat(settingsName); errors.Is(err, fs.ErrNotExist) {
			return Settings{MaxVersions: DefaultMaxVersions}, nil
		}
		if err == nil {
			return Settings{}, s.spoilt(errors.New("it is not a regular file"))
		}
	}
	if err != nil {
		return Settings{}, fmt.Errorf("data directory %s: read settings: %w", s.dir, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSettings+1))
	if err != nil {
		return Settings{}, fmt.Errorf("data directory %s: read settings: %w", s.dir, err)
	}
	settings, err := parseSettings(text)
	if err != nil {
		return Settings{}, s.spoilt(err)
	}
	return settings, nil
}

// spoilt returns an error that names the file of the settings, its fault and the remedy.
func (s *Store) spoilt(fault error) error {
	return fmt.Errorf("%w: %s/%s: %w; mend it, or remove it and give --max-versions again",
		ErrSettings, s.dir, settingsName, fault)
}

// parseSettings reads the text of settings.json. It refuses members that it does not know:
// they may be of a later release, and forbid to retire a version.
func parseSettings(text []byte) (Settings, error) {
	if len(text) > maxSettings {
		return Settings{}, fmt.Errorf("it is longer than %d bytes", maxSettings)
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
	return settings, settings.check()
}

// Change has edit change the settings, and returns those before and after. They are on the
// disk when this returns nil. Versions beyond a lower number to keep stay until the next
// [Writer.Publish] or [Writer.Trim].
func (s *Store) Change(ctx context.Context, edit func(*Settings)) (before, after Settings, err error) {
	lock, err := s.lock(ctx, settingsLock, settingsPatience)
	if err != nil {
		return Settings{}, Settings{}, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return s.edit(edit)
}

// edit is [Store.Change] by a caller that holds the settings.
func (s *Store) edit(edit func(*Settings)) (before, after Settings, err error) {
	if before, err = s.Settings(); err != nil {
		return Settings{}, Settings{}, err
	}
	after = before
	after.Pinned = slices.Clone(before.Pinned)
	edit(&after)
	if err := after.check(); err != nil {
		return Settings{}, Settings{}, fmt.Errorf("data directory %s: %w", s.dir, err)
	}
	if after.Equal(before) {
		return before, after, nil
	}
	text, err := json.Marshal(after)
	if err == nil {
		err = s.writeFile(settingsName, append(text, '\n'))
	}
	return before, after, err
}

// holdSettings returns those of the directory as they are until release is called.
func (s *Store) holdSettings() (settings Settings, release func() error, err error) {
	lock, err := s.lock(context.Background(), settingsLock, settingsPatience)
	if err != nil {
		return Settings{}, nil, err
	}
	if settings, err = s.Settings(); err != nil {
		return Settings{}, nil, errors.Join(err, lock.Close())
	}
	return settings, lock.Close, nil
}

// Keep makes versions the number to keep, unless it is 0, and logs the change.
func (s *Store) Keep(ctx context.Context, versions int) error {
	if versions == 0 {
		return nil
	}
	before, after, err := s.Change(ctx, func(settings *Settings) { settings.MaxVersions = versions })
	if err == nil && !before.Equal(after) {
		s.logger.Info("settings changed", "dir", s.dir,
			"max_versions", after.MaxVersions, "was", before.MaxVersions)
	}
	return err
}

// FollowSettings calls changed, until ctx ends, once at first and within a second or so after
// the settings became others than those of its last call. It calls changed again every second
// while that returns an error, and logs the error once.
func (s *Store) FollowSettings(ctx context.Context, changed func(context.Context) error) {
	var before Settings
	ticker := time.NewTicker(settingsInterval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now, err := s.Settings()
		if err == nil && !now.Equal(before) {
			if err = changed(ctx); err == nil {
				before = now
			}
		}
		if err != nil && !failing && ctx.Err() == nil {
			s.logger.Error("data directory failed", "task", "settings", "err", err)
		}
		failing = err != nil
	}
}
