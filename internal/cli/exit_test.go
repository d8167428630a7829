package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
)

func TestEachKindOfErrorHasItsExitCode(t *testing.T) {
	plain := errors.New("plain")
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"anything":                   {plain, ExitFailed},
		"a missing file":             {fs.ErrNotExist, ExitFailed},
		"the end of the context":     {context.Canceled, ExitFailed},
		"a file that changed":        {shardcast.ErrChanged, ExitFailed},
		"a directory in use":         {shardcast.ErrInUse, ExitFailed},
		"wrong usage":                {Usage(plain), ExitUsage},
		"wrong usage, wrapped":       {fmt.Errorf("start: %w", Usage(plain)), ExitUsage},
		"wrong usage, joined":        {errors.Join(plain, Usage(plain)), ExitUsage},
		"an option out of its range": {fmt.Errorf("%w: Port", shardcast.ErrOptions), ExitUsage},
		"no such version":            {shardcast.ErrNoVersion, ExitNoVersion},
		"no such version, wrapped":   {fmt.Errorf("v7: %w", shardcast.ErrNoVersion), ExitNoVersion},
		"wrong bytes":                {shardcast.ErrIntegrity, ExitIntegrity},
		"wrong bytes, wrapped": {
			fmt.Errorf("v7: %w", errors.Join(plain, shardcast.ErrIntegrity)),
			ExitIntegrity,
		},
		"wrong bytes or none": {errors.Join(shardcast.ErrUnreachable, shardcast.ErrIntegrity), ExitIntegrity},
		"unreachable":         {shardcast.ErrUnreachable, ExitUnreachable},
		"not trusted":         {errors.Join(shardcast.ErrIntegrity, shardcast.ErrNotTrusted), ExitNotTrusted},
		"expired":             {shardcast.ErrExpired, ExitExpired},
		"unreachable, and not ended": {
			errors.Join(fmt.Errorf("v7: %w", shardcast.ErrUnreachable), plain),
			ExitUnreachable,
		},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.want, exitCode(tc.err)) })
	}
}

func TestUsageKeepsTheError(t *testing.T) {
	err := Usage(fmt.Errorf("open: %w", fs.ErrNotExist))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, "open: "+fs.ErrNotExist.Error())
}

func TestLevelTakesTheNamesOfPython(t *testing.T) {
	for name, want := range map[string]slog.Level{
		"DEBUG":    slog.LevelDebug,
		"INFO":     slog.LevelInfo,
		"WARNING":  slog.LevelWarn,
		"ERROR":    slog.LevelError,
		"CRITICAL": slog.LevelError + 4,
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range []string{name, strings.ToLower(name), name[:1] + strings.ToLower(name[1:])} {
				l := level(99)
				require.NoError(t, l.Set(text))
				assert.Equal(t, want, slog.Level(l))
				assert.Equal(t, name, l.String())
			}
		})
	}
}

func TestLevelRefusesOtherNames(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "Go's name": "WARN", "a number": "10", "a word": "verbose", "space": " INFO",
		"two": "DEBUG,INFO", "an offset": "INFO+1",
	} {
		t.Run(name, func(t *testing.T) {
			l := level(slog.LevelWarn)
			err := l.Set(text)
			require.ErrorContains(t, err, "CRITICAL", "the message lists the levels")
			assert.Equal(t, "WARNING", l.String())
		})
	}
}
