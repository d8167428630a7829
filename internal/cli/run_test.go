package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

// command is a little command with the flags that the three commands share.
type command struct {
	*cobra.Command

	opts   shardcast.MiddleOptions
	size   int64
	logger func(io.Writer) *slog.Logger

	ran    bool
	stdout bytes.Buffer
}

// newCommand returns a command that calls run, with those environment
// variables of ours that env has.
func newCommand(t *testing.T, env map[string]string, run func(ctx context.Context) error) *command {
	t.Helper()
	c := &command{size: 5}
	c.Command = &cobra.Command{
		Use:  "test",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.ran = true
			if run == nil {
				return nil
			}
			return run(cmd.Context())
		},
	}
	flags := c.Flags()
	cli.ServersFlag(flags, &c.opts.Upstreams, "servers", "servers")
	cli.KeepFlags(flags, &c.opts.DataDir, "./data", &c.opts.MaxVersions)
	flags.Var((*cli.Size)(&c.size), "shard-size", "size of a shard, in bytes")
	cli.Under(flags, cli.Fetch)
	cli.ListenFlags(flags, &c.opts.Host, &c.opts.Port)
	cli.LimitFlags(flags, &c.opts.Limits, "sending")
	cli.TransferFlags(flags, &c.opts.Fetch)
	cli.Under(flags, cli.Network)
	cli.SwarmFlags(flags, &c.opts.Swarm, "swap shards with peers", "peers")
	cli.Under(flags, cli.Swarm)
	cli.RetryFlags(flags, &c.opts.Fetch)
	cli.DialectFlag(flags, &c.opts.Dialect)
	cli.Under(flags, cli.Expert)
	c.logger = cli.LogFlag(c.PersistentFlags())
	cli.Under(c.PersistentFlags(), cli.Show)
	c.SetOut(&c.stdout)
	all := map[string]string{
		"IP_ADDR_LIST":                       "",
		"SHARDCAST_LOG_LEVEL":                "",
		"SHARDCAST_HTTP_PORT":                "",
		"SHARDCAST_MAX_DISTRIBUTION_FOLDERS": "",
		"SHARDCAST_HTTP_TIMEOUT":             "",
		"SHARDCAST_RETRY_ATTEMPTS":           "",
		"SHARDCAST_FAST_RETRY_ATTEMPTS":      "",
		"SHARDCAST_FAST_RETRY_INTERVAL":      "",
		"SHARDCAST_SLOW_RETRY_INTERVAL":      "",
		"SHARDCAST_MAX_CONCURRENT_DOWNLOADS": "",
		"SHARDCAST_SHARD_SIZE":               "",
	}
	maps.Copy(all, env)
	for name, value := range all {
		t.Setenv(name, value)
	}
	return c
}

// run runs the command and returns its exit code and its stderr.
func (c *command) run(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	c.SetArgs(append([]string{}, args...)) // nil would be those of the test
	file, err := os.CreateTemp(t.TempDir(), "stderr")
	require.NoError(t, err)
	defer file.Close()
	defer func(before *os.File) { os.Stderr = before }(os.Stderr)
	os.Stderr = file
	code = cli.Run(c.Command)
	text, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	return code, string(text)
}

// settings are the options that the flags set.
type settings struct {
	opts        shardcast.MiddleOptions
	size        int64
	debug, info bool // whether the logger takes them
}

func (c *command) settings(t *testing.T) settings {
	t.Helper()
	opts := c.opts
	var err error
	opts.UpstreamPort, err = cli.ServerPort(opts.Upstreams, "servers")
	require.NoError(t, err)
	return settings{
		opts: opts,
		size: c.size,
		debug: c.logger(
			os.Stderr,
		).Enabled(
			t.Context(),
			slog.LevelDebug,
		),
		info: c.logger(os.Stderr).Enabled(t.Context(), slog.LevelInfo),
	}
}

// defaults are the settings when only the servers are given.
func defaults() settings {
	return settings{
		size: 5, info: true,
		opts: shardcast.MiddleOptions{
			Upstreams: []string{
				"a",
			},
			DataDir: "./data",
			Port:    8000,
			Fetch: shardcast.FetchOptions{
				Timeout: 30 * time.Second, Attempts: 5, FastAttempts: 3,
				FastWait: 2 * time.Second, SlowWait: 15 * time.Second,
			},
		},
	}
}

func TestSettingsComeFromFlagsThenTheEnvironmentThenDefaults(t *testing.T) {
	server := map[string]string{"IP_ADDR_LIST": "a"}
	for name, tc := range map[string]struct {
		env  map[string]string
		args []string
		want func(s *settings)
	}{
		"defaults": {server, nil, func(*settings) {}},
		"flags": {
			nil,
			[]string{
				"--servers", "b,c", "--host", "::1", "--port", "0", "--max-versions", "3", "--shard-size", "64MiB",
				"--timeout", "1m30s", "--attempts", "7",
				"--fast-attempts", "2", "--fast-interval", "0.5", "--slow-interval", "60", "--concurrency", "4",
				"--log-level", "debug",
				"--limit-rate", "50MB/s", "--limit-rate-per-client", "1MiB/s", "--max-connections", "100",
				"--max-connections-per-client", "10",
				"--dialect", "0.3", "--swarm", "--swarm-allow", "10.0.0.0/8",
			},
			func(s *settings) {
				s.opts.Swarm = shardcast.SwarmOptions{
					Enabled: true,
					Allow:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
				}
				s.opts.Limits = shardcast.ServerLimits{
					LimitRate: 50_000_000, LimitRatePerClient: 1 << 20, MaxConnections: 100,
					MaxConnectionsPerClient: 10,
				}
				s.opts.Upstreams, s.opts.Host, s.opts.Port, s.opts.MaxVersions = []string{"b", "c"}, "::1", -1, 3
				s.opts.Dialect, s.size, s.debug = "0.3", 64<<20, true
				s.opts.Fetch = shardcast.FetchOptions{
					Timeout: 90 * time.Second, Attempts: 7, FastAttempts: 2,
					FastWait: 500 * time.Millisecond, SlowWait: time.Minute, Concurrency: 4,
				}
			},
		},
		"the environment": {
			map[string]string{
				"IP_ADDR_LIST": `("b" "c")`, "SHARDCAST_HTTP_PORT": "9000", "SHARDCAST_MAX_DISTRIBUTION_FOLDERS": "3",
				"SHARDCAST_SHARD_SIZE":   "1000",
				"SHARDCAST_HTTP_TIMEOUT": "90", "SHARDCAST_RETRY_ATTEMPTS": "7", "SHARDCAST_FAST_RETRY_ATTEMPTS": "2",
				"SHARDCAST_FAST_RETRY_INTERVAL": "0.5", "SHARDCAST_SLOW_RETRY_INTERVAL": "60",
				"SHARDCAST_MAX_CONCURRENT_DOWNLOADS": "4",
				"SHARDCAST_LOG_LEVEL":                "ERROR", "SHARDCAST_DIALECT": "0.3",
			},
			nil,
			func(s *settings) {
				s.opts.Upstreams, s.opts.Port, s.opts.UpstreamPort, s.opts.MaxVersions = []string{
					"b",
					"c",
				}, 9000, 9000, 3
				s.opts.Dialect, s.size, s.info = "0.3", 1000, false
				s.opts.Fetch = shardcast.FetchOptions{
					Timeout: 90 * time.Second, Attempts: 7, FastAttempts: 2,
					FastWait: 500 * time.Millisecond, SlowWait: time.Minute, Concurrency: 4,
				}
			},
		},
		"a flag wins": {
			map[string]string{
				"IP_ADDR_LIST": "b", "SHARDCAST_MAX_DISTRIBUTION_FOLDERS": "3",
				"SHARDCAST_LOG_LEVEL": "DEBUG",
			},
			[]string{"--servers", "a", "--max-versions", "4", "--log-level", "CRITICAL"},
			func(s *settings) { s.opts.MaxVersions, s.info = 4, false },
		},
		"a flag wins with the default": {
			map[string]string{"SHARDCAST_MAX_DISTRIBUTION_FOLDERS": "3"},
			[]string{"--servers=a", "--max-versions=15"},
			func(s *settings) { s.opts.MaxVersions = 15 },
		},
		"a flag wins over a bad value": {
			map[string]string{
				"IP_ADDR_LIST": "(", "SHARDCAST_MAX_DISTRIBUTION_FOLDERS": "many",
				"SHARDCAST_LOG_LEVEL": "loud",
			},
			[]string{"--servers=a", "--max-versions=4", "--log-level=info"},
			func(s *settings) { s.opts.MaxVersions = 4 },
		},
		"the port of servers is not the one to listen on": {
			map[string]string{"SHARDCAST_HTTP_PORT": "9000"},
			[]string{"--servers=a", "--port=7000"},
			func(s *settings) { s.opts.Port, s.opts.UpstreamPort = 7000, 9000 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCommand(t, tc.env, nil)
			code, stderr := c.run(t, tc.args...)
			require.Zero(t, code, stderr)
			assert.True(t, c.ran)
			assert.Empty(t, stderr)
			want := defaults()
			tc.want(&want)
			assert.Equal(t, want, c.settings(t))
		})
	}
}

func TestABadValueInTheEnvironmentNamesItsVariable(t *testing.T) {
	for variable, value := range map[string]string{
		"IP_ADDR_LIST":                       `("a"`,
		"SHARDCAST_LOG_LEVEL":                "loud",
		"SHARDCAST_HTTP_PORT":                "70000",
		"SHARDCAST_DIALECT":                  "0.4",
		"SHARDCAST_MAX_DISTRIBUTION_FOLDERS": "0",
		"SHARDCAST_HTTP_TIMEOUT":             "soon",
		"SHARDCAST_RETRY_ATTEMPTS":           "-1",
		"SHARDCAST_FAST_RETRY_ATTEMPTS":      "1.5",
		"SHARDCAST_FAST_RETRY_INTERVAL":      "0",
		"SHARDCAST_SLOW_RETRY_INTERVAL":      "NaN",
		"SHARDCAST_MAX_CONCURRENT_DOWNLOADS": " ",
		"SHARDCAST_SHARD_SIZE":               "50 parsecs",
	} {
		t.Run(variable, func(t *testing.T) {
			c := newCommand(t, map[string]string{variable: value}, nil)
			code, stderr := c.run(t)
			assert.Equal(t, cli.ExitUsage, code)
			assert.False(t, c.ran)
			assert.Contains(t, stderr, "environment variable "+variable)
			assert.Contains(t, stderr, "Run 'test --help'")
		})
	}
}

func TestEveryFlagHasAVariable(t *testing.T) {
	c := newCommand(t, map[string]string{
		"SHARDCAST_DATA_DIR":        "/elsewhere",
		"SHARDCAST_MAX_CONNECTIONS": "3",
		"SHARDCAST_SWARM":           "1",
		"SHARDCAST_HELP":            "1",
	}, nil)
	var listed bool
	c.Flags().BoolVar(&listed, "list", false, "list the versions")
	cli.Env(c.Flags(), "list", "")
	t.Setenv("SHARDCAST_LIST", "1")
	code, stderr := c.run(t)
	require.Zero(t, code, stderr)
	assert.True(t, c.ran, "help has no variable")
	assert.False(t, listed, "a flag without a variable")
	assert.Equal(t, "/elsewhere", c.opts.DataDir)
	assert.Equal(t, 3, c.opts.Limits.MaxConnections)
	assert.True(t, c.opts.Swarm.Enabled)
}

func TestAVariableForASwitchIsTrueOrFalse(t *testing.T) {
	for value, want := range map[string]bool{"1": true, "true": true, "0": false, "false": false} {
		c := newCommand(t, map[string]string{"SHARDCAST_SWARM": value}, nil)
		code, stderr := c.run(t)
		require.Zero(t, code, stderr)
		assert.Equal(t, want, c.opts.Swarm.Enabled, value)
	}
	c := newCommand(t, map[string]string{"SHARDCAST_SWARM": "yes"}, nil)
	code, stderr := c.run(t)
	assert.Equal(t, cli.ExitUsage, code)
	assert.Contains(t, stderr, `environment variable SHARDCAST_SWARM "yes": want 1, 0, true or false`)
}

func TestOnlyTheCommandLineCanAskForWhatHasNoEffect(t *testing.T) {
	for name, tc := range map[string]struct {
		env  string
		args []string
		want int
	}{
		"in the environment":  {"10.0.0.0/8", nil, cli.ExitDone},
		"on the command line": {"", []string{"--swarm-allow=10.0.0.0/8"}, cli.ExitUsage},
		"both, and in effect": {"10.0.0.0/8", []string{"--swarm", "--swarm-allow=10.0.0.0/8"}, cli.ExitDone},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCommand(t, map[string]string{"SHARDCAST_SWARM_ALLOW": tc.env}, nil)
			c.RunE = func(cmd *cobra.Command, _ []string) error {
				return cli.Requires(cmd.Flags(), "swarm", "swarm-allow")
			}
			code, stderr := c.run(t, tc.args...)
			assert.Equal(t, tc.want, code, stderr)
		})
	}
}

func TestAllBadValuesInTheEnvironmentAreNamedAtOnce(t *testing.T) {
	c := newCommand(t, map[string]string{"SHARDCAST_RETRY_ATTEMPTS": "x", "SHARDCAST_HTTP_TIMEOUT": "y"}, nil)
	code, stderr := c.run(t)
	assert.Equal(t, cli.ExitUsage, code)
	assert.Contains(t, stderr, "SHARDCAST_RETRY_ATTEMPTS")
	assert.Contains(t, stderr, "SHARDCAST_HTTP_TIMEOUT")
}

func TestWithoutServersTheErrorNamesTheFlagAndTheVariable(t *testing.T) {
	c := newCommand(t, nil, nil)
	c.RunE = func(*cobra.Command, []string) error {
		_, err := cli.ServerPort(c.opts.Upstreams, "servers")
		return err
	}
	code, stderr := c.run(t)
	assert.Equal(t, cli.ExitUsage, code)
	assert.Contains(t, stderr, "--servers")
	assert.Contains(t, stderr, "IP_ADDR_LIST")
}

func TestThePortOfServersIsFrom1To65535(t *testing.T) {
	for _, value := range []string{"0", "-1", "65536", "http"} {
		t.Run(value, func(t *testing.T) {
			c := newCommand(t, map[string]string{"SHARDCAST_HTTP_PORT": value}, nil)
			require.NoError(t, c.Flags().Set("servers", "a"))
			_, err := cli.ServerPort(c.opts.Upstreams, "servers")
			require.ErrorContains(t, err, "SHARDCAST_HTTP_PORT")
		})
	}
}

func TestLoggerLeavesOutLowerLevels(t *testing.T) {
	c := newCommand(t, nil, nil)
	c.RunE = func(*cobra.Command, []string) error {
		logger := c.logger(os.Stderr)
		logger.Info("left out")
		logger.Warn("worked, but not as hoped", "upstream", "a")
		return nil
	}
	code, stderr := c.run(t, "--log-level", "WARNING")
	require.Zero(t, code)
	assert.Contains(t, stderr, `msg="worked, but not as hoped" upstream=a`)
	assert.NotContains(t, stderr, "left out")
	assert.Empty(t, c.stdout.String(), "stdout is for results only")
}

func TestTheStandardLoggerLogsAtDebug(t *testing.T) {
	for level, want := range map[string]string{
		"INFO":  "",
		"DEBUG": `level=DEBUG msg="Unsolicited response received on idle HTTP channel"`,
	} {
		c := newCommand(t, nil, nil)
		c.RunE = func(*cobra.Command, []string) error {
			c.logger(cli.Stderr(c.Command))
			log.Print("Unsolicited response received on idle HTTP channel") // as package net/http does
			return nil
		}
		code, stderr := c.run(t, "--log-level", level)
		require.Zero(t, code)
		if want == "" {
			assert.Empty(t, stderr)
		} else {
			assert.Contains(t, stderr, want)
		}
	}
}

func TestRunPrintsAnErrorOnceAndReturnsItsCode(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"nothing":         {nil, cli.ExitDone},
		"anything":        {errors.New("no luck"), cli.ExitFailed},
		"usage":           {cli.Usage(errors.New("no luck")), cli.ExitUsage},
		"no such version": {fmt.Errorf("no luck: %w", shardcast.ErrNoVersion), cli.ExitNoVersion},
		"wrong bytes":     {fmt.Errorf("no luck: %w", shardcast.ErrIntegrity), cli.ExitIntegrity},
		"unreachable":     {fmt.Errorf("no luck: %w", shardcast.ErrUnreachable), cli.ExitUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCommand(t, nil, func(context.Context) error { return tc.err })
			code, stderr := c.run(t)
			assert.Equal(t, tc.want, code)
			if tc.err == nil {
				assert.Empty(t, stderr)
				return
			}
			assert.True(t, strings.HasPrefix(stderr, "test: no luck"), stderr)
			assert.Equal(t, 1, strings.Count(stderr, "no luck"))
			assert.Equal(t, tc.want == cli.ExitUsage, strings.Contains(stderr, "--help"))
			assert.Empty(t, c.stdout.String(), "stdout is for results only")
		})
	}
}

func TestRunReturnsTwoForWrongUsage(t *testing.T) {
	for name, args := range map[string][]string{
		"an unknown flag":                 {"--speed", "3"},
		"a flag without its value":        {"--port"},
		"a bad value":                     {"--port", "70000"},
		"an argument too many":            {"file"},
		"an unknown flag of version":      {"version", "--speed"},
		"an argument too many to version": {"version", "file"},
		"an argument too many to another": {"completion", "bash", "file"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCommand(t, nil, nil)
			code, stderr := c.run(t, args...)
			assert.Equal(t, cli.ExitUsage, code)
			assert.False(t, c.ran)
			assert.Contains(t, stderr, "test: ")
			assert.Regexp(t, `\nRun 'test( version| completion bash)? --help' for its flags\.\n$`, stderr)
			assert.Empty(t, c.stdout.String(), "stdout is for results only")
		})
	}
}

func TestVersionPrintsTheBuild(t *testing.T) {
	c := newCommand(t, nil, nil)
	code, stderr := c.run(t, "version")
	require.Zero(t, code, stderr)
	assert.False(t, c.ran)
	assert.Regexp(t, `^test \S+ `+runtime.Version()+` `+runtime.GOOS+`/`+runtime.GOARCH+"\n$", c.stdout.String())
}

func TestRunEndsTheContextWithASignal(t *testing.T) {
	broken := errors.New("broken off")
	for name, tc := range map[string]struct {
		signal os.Signal
		err    error
		want   int
	}{
		"SIGINT":                 {os.Interrupt, broken, 130},
		"SIGTERM":                {syscall.SIGTERM, broken, 143},
		"SIGTERM to wrong bytes": {syscall.SIGTERM, shardcast.ErrIntegrity, 143},
		"SIGTERM to a server":    {syscall.SIGTERM, nil, cli.ExitDone},
		"SIGINT to a server":     {os.Interrupt, nil, cli.ExitDone},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCommand(t, nil, func(ctx context.Context) error {
				self, err := os.FindProcess(os.Getpid())
				if err != nil {
					return err
				}
				if err := self.Signal(tc.signal); err != nil {
					return err
				}
				<-ctx.Done()
				assert.ErrorContains(t, context.Cause(ctx), "interrupted by "+strings.Fields(name)[0])
				return tc.err
			})
			code, stderr := c.run(t)
			assert.Equal(t, tc.want, code, stderr)
		})
	}
}

func TestAFlagWithoutTheFlagThatItNeedsIsWrongUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--swarm-allow 10.0.0.0/8":               "test: --swarm-allow has no effect without --swarm\n",
		"--swarm=false --swarm-allow 10.0.0.0/8": "test: --swarm-allow has no effect without --swarm\n",
		"--swarm --swarm-allow 10.0.0.0/8":       "",
		"--swarm":                                "",
		"":                                       "",
	} {
		t.Run(args, func(t *testing.T) {
			c := newCommand(t, nil, nil)
			c.RunE = func(cmd *cobra.Command, _ []string) error {
				return cli.Requires(cmd.Flags(), "swarm",
					"swarm-allow")
			}
			code, stderr := c.run(t, strings.Fields(args)...)
			assert.Equal(t, want != "", code == cli.ExitUsage)
			assert.True(t, strings.HasPrefix(stderr, want), stderr)
		})
	}
}
