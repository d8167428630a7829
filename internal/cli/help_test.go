package cli_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// help returns the help of a command with the shared flags.
func help(t *testing.T, args ...string) string {
	t.Helper()
	c := newCommand(t, nil, nil)
	code, stderr := c.run(t, append(args, "--help")...)
	require.Zero(t, code, stderr)
	return c.stdout.String()
}

func TestHelpHasFlagsUnderHeadings(t *testing.T) {
	text := help(t)
	headings := regexp.MustCompile(`(?m)^[A-Z].*:$`).FindAllString(text, -1)
	assert.Equal(
		t,
		[]string{"Usage:", "Commands:", "What to fetch:", "How to show it:", "Network:", "Swarm:", "Expert:"},
		headings,
	)
	_, expert, _ := strings.Cut(text, "\nExpert:\n")
	for _, name := range []string{"attempts", "fast-attempts", "fast-interval", "slow-interval", "dialect", "pprof"} {
		assert.Contains(t, expert, "  --"+name+" ")
	}
	assert.Equal(t, 1, strings.Count(text, "--log-level "))
}

func TestHelpFitsEightyColumnsWhereThereIsNoTerminal(t *testing.T) {
	for _, text := range []string{help(t), help(t, "version"), help(t, "completion", "bash")} {
		_, flags, found := strings.Cut(text, "\nUsage:\n")
		if !found {
			flags = text
		}
		for _, line := range strings.Split(flags, "\n") {
			assert.LessOrEqual(t, len(line), 80, line)
		}
	}
}

func TestHelpNamesVariablesDefaultsAndExitCodes(t *testing.T) {
	text := strings.Join(strings.Fields(help(t)), " ")
	assert.Contains(
		t,
		text,
		"--port PORT TCP port to listen on (0: any free port) (env SHARDCAST_HTTP_PORT) (default 8000)",
	)
	assert.Contains(t, text, "(env IP_ADDR_LIST)")
	assert.Contains(t, text, "--limit-rate RATE limit for sending, in bytes per second "+
		"(env SHARDCAST_LIMIT_RATE) (default none)")
	assert.Contains(
		t,
		text,
		"Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such version, 4 integrity failure, 5 no server reachable, "+
			"6 not trusted, 7 release expired",
	)
}

func TestTheShellCompletesValuesFilesAndDirectories(t *testing.T) {
	const values, files, directories = ":4", ":0", ":16" // cobra's directives to the shell's script
	for args, want := range map[string][]string{
		"--log-level ": {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", values},
		"--dialect ":   {"0.1", "0.2", "0.3", values},
		"--port ":      {values},
		"--ca-file ":   {files},
		"--data-dir ":  {directories},
		"version --pp": {"--pprof\t`ADDRESS` for profiles, a port of loopback or host:port (default none)", values},
		"version x":    {values},
		"--swarm-allo": {
			"--swarm-allow\twith --swarm: further networks of peers, such as 10.0.0.0/8 (default none)",
			values,
		},
	} {
		t.Run(args, func(t *testing.T) {
			c := newCommand(t, nil, nil)
			code, stderr := c.run(t, append([]string{"__complete"}, strings.Split(args, " ")...)...)
			require.Zero(t, code, stderr)
			assert.Equal(t, want, strings.Split(strings.TrimSpace(c.stdout.String()), "\n"))
		})
	}
}
