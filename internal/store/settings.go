package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/shardcast/shardcast/internal/policy"
)

const (
	settingsName = private + "/settings.json"
	settingsLock = private + "/settings.lock"

	// settingsPatience is how long a change of the settings waits for another one.
	settingsPatience = 10 * time.Second

	// settingsInterval is the pause between two looks of [Store.FollowSettings].
	settingsInterval = time.Second
)

// Validity returns how long the next release of the directory is valid, or [signing.NeverExpires].
func (s *Store) Validity() (time.Duration, error) {
	settings, err := s.Settings()
	if s.signing != nil && s.signing.Expires != 0 {
		return s.signing.Expires, err
	}
	return settings.Validity(), err
}

// ErrSettings means that settings.json has been spoilt. Until it is mended, no version is
// published or retired.
var ErrSettings = errors.New("the settings of the data directory are not valid")

// ReadSettings returns those of the data directory dir, see [Store.Settings], and makes
// nothing there. The error matches [fs.ErrNotExist] if there is no such directory.
func ReadSettings(dir string) (policy.Settings, error) {
	s, err := Read(dir)
	if err != nil {
		return policy.Settings{}, err
	}
	defer s.root.Close()
	return s.Settings()
}

// Settings returns those of the directory as they are now, and the defaults where there are
// none. The error matches [ErrSettings] if their file is spoilt.
func (s *Store) Settings() (policy.Settings, error) {
	f, err := s.openRegular(settingsName)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = s.root.Lstat(settingsName); errors.Is(err, fs.ErrNotExist) {
			return policy.Settings{MaxVersions: policy.DefaultMaxVersions}, nil
		}
		if err == nil {
			return policy.Settings{}, s.spoilt(errors.New("it is not a regular file"))
		}
	}
	if err != nil {
		return policy.Settings{}, fmt.Errorf("data directory %s: read settings: %w", s.dir, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, policy.MaxSize+1))
	if err != nil {
		return policy.Settings{}, fmt.Errorf("data directory %s: read settings: %w", s.dir, err)
	}
	settings, err := policy.Parse(text)
	if err != nil {
		return policy.Settings{}, s.spoilt(err)
	}
	return settings, nil
}

// spoilt returns an error that names the file of the settings, its fault and the remedy.
func (s *Store) spoilt(fault error) error {
	return fmt.Errorf("%w: %s/%s: %w; mend it, or remove it and give --max-versions again",
		ErrSettings, s.dir, settingsName, fault)
}

// Change has edit change the settings, and returns those before and after. They are on the
// disk when this returns nil. Versions beyond a lower number to keep stay until the next
// [Writer.Publish] or [Writer.Trim].
func (s *Store) Change(ctx context.Context, edit func(*policy.Settings)) (before, after policy.Settings, err error) {
	lock, err := s.lock(ctx, settingsLock, settingsPatience)
	if err != nil {
		return policy.Settings{}, policy.Settings{}, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return s.edit(edit)
}

// edit is [Store.Change] by a caller that holds the settings.
func (s *Store) edit(edit func(*policy.Settings)) (before, after policy.Settings, err error) {
	if before, err = s.Settings(); err != nil {
		return policy.Settings{}, policy.Settings{}, err
	}
	after = before
	after.Pinned = slices.Clone(before.Pinned)
	edit(&after)
	if err := after.Check(); err != nil {
		return policy.Settings{}, policy.Settings{}, fmt.Errorf("data directory %s: %w", s.dir, err)
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
func (s *Store) holdSettings() (settings policy.Settings, release func() error, err error) {
	lock, err := s.lock(context.Background(), settingsLock, settingsPatience)
	if err != nil {
		return policy.Settings{}, nil, err
	}
	if settings, err = s.Settings(); err != nil {
		return policy.Settings{}, nil, errors.Join(err, lock.Close())
	}
	return settings, lock.Close, nil
}

// Keep makes versions the number to keep, unless it is 0, and logs the change.
func (s *Store) Keep(ctx context.Context, versions int) error {
	if versions == 0 {
		return nil
	}
	before, after, err := s.Change(ctx, func(settings *policy.Settings) { settings.MaxVersions = versions })
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
	var before policy.Settings
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
