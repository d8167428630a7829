package cmd_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// command returns one of ours, with a directory of its own and no settings.
func command(ctx context.Context, t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, filepath.Join(binaries, name), args...)
	cmd.Dir = t.TempDir()
	return cmd
}

// wrong are wrong usages: a command with its arguments, and the message, which names the flag,
// argument or variable at fault. Settings before the command are its environment. The
// exit code is 2, unless the message begins with another one.
var wrong = [][2]string{
	{`origin --nonsense`, `unknown flag: --nonsense`},
	{`origin --data-dirr x`, `unknown flag: --data-dirr; did you mean --data-dir?`},
	{`origin --version`, `unknown flag: --version; run 'shardcast-origin version'`},
	{`origin broadcast f.bin --withdraw`, `unknown flag: --withdraw; run 'shardcast-origin withdraw'`},
	{`origin -x`, `unknown shorthand flag: 'x' in -x`},
	{`origin nonsense`, `unknown command "nonsense" for "shardcast-origin"`},
	{`origin brodcast f.bin`, `unknown command "brodcast" for "shardcast-origin"; did you mean broadcast?`},
	{`origin f.bin`, `unknown command "f.bin" for "shardcast-origin"; did you mean shardcast-origin broadcast f.bin?`},
	{`origin latest`, `unknown command "latest" for "shardcast-origin"`},
	{`origin version x`, `unexpected argument "x": 'shardcast-origin version' takes none`},
	{`origin broadcast`, `broadcast takes one PATH, and 0 were given`},
	{`origin broadcast f.bin f.bin`, `broadcast takes one PATH, and 2 were given`},
	{`origin broadcast f.bin --shard-size 0`, `--shard-size "0": want a size from 1 byte on, such as 50MB`},
	{`origin broadcast f.bin --shard-size=-5MB`, `--shard-size "-5MB": want a size from 1 byte on`},
	{`origin broadcast f.bin --shard-size garbage`, `--shard-size "garbage": want a size from 1 byte on`},
	{`origin broadcast f.bin --max-versions 0`, `--max-versions "0": want a whole number from 1`},
	{`origin broadcast f.bin --limit-rate 50MB/s`, `unknown flag: --limit-rate; it is a flag of 'shardcast-origin'`},
	{`origin broadcast f.bin --watch dir`, `unknown flag: --watch; it is a flag of 'shardcast-origin'`},
	{`origin broadcast nowhere`, `1 broadcast nowhere: `},
	{`origin config x`, `unexpected argument "x": 'shardcast-origin config' takes none`},
	{`origin config --max-versions 0`, `--max-versions "0": want a whole number from 1`},
	{`origin config --max-version 3`, `unknown flag: --max-version; did you mean --max-versions?`},
	{`origin --port 65536`, `--port "65536": want a port from 0 to 65535`},
	{`origin --port http`, `--port "http": want a port from 0 to 65535`},
	{`origin --port`, `flag needs an argument: --port`},
	{`origin --host nowhere.invalid --port 0`, `1 listen on nowhere.invalid:0: `},
	{`origin --limit-rate 0`, `--limit-rate "0": want 1 byte per second or more`},
	{`origin --limit-rate-per-client fast`, `--limit-rate-per-client "fast": want 1 byte per second or more`},
	{`origin --max-connections 0`, `--max-connections "0": want a whole number from 1`},
	{`origin --watch-glob x`, `--watch-glob has no effect without --watch`},
	{`origin --watch-marker x`, `--watch-marker has no effect without --watch`},
	{`origin --watch dir --watch-glob [`, `--watch-glob: "[", want a pattern such as '*.safetensors'`},
	{`origin --watch dir --watch-glob a/b/c`, `--watch-glob: "a/b/c", want a name, or a directory's and a name`},
	{`origin --watch dir --watch-marker a/b`, `--watch-marker: "a/b", want a name without a directory`},
	{`origin --watch dir --watch-settle 0`, `--watch-settle "0": want a number of seconds above 0 and up to a year`},
	{`origin --watch . --data-dir .`, `--watch: . is in the data directory .`},
	{`origin --swarm-allow 10.0.0.0/8`, `--swarm-allow has no effect without --swarm`},
	{`origin --swarm --swarm-allow 10.0.0.1`, `--swarm-allow "10.0.0.1": want IP prefixes, such as 10.0.0.0/8`},
	{`origin --swarm=maybe`, `--swarm "maybe": want 1, 0, true or false`},
	{`origin --dialect 0.4`, `--dialect "0.4": want 0.1`},
	{`origin --log-level loud`, `--log-level "loud": want DEBUG, INFO, WARNING, ERROR or CRITICAL`},
	{`origin --debug`, `unknown flag: --debug; did you mean --log-level?`},
	{`origin --access-log nowhere/x`, `1 --access-log: open nowhere/x: no such file or directory`},
	{`origin --access-log dir`, `1 --access-log: open dir: is a directory`},
	{`origin --pprof nonsense:x`, `1 --pprof: serve profiles: `},
	{`origin --cors x`, `--cors: "x", want a site such as https://`},
	{`origin --allow-host http://x`, `--allow-host: "http://x", want a name without a port`},
	{`origin --data-dir f.bin --port 0`, `1 data directory`},

	{`middle`, `no server to fetch from: give --upstream or set IP_ADDR_LIST`},
	{`middle --version`, `unknown flag: --version; run 'shardcast-middle version'`},
	{`middle x`, `unknown command "x" for "shardcast-middle"`},
	{`middle 10.0.0.1`, `unknown command "10.0.0.1" for "shardcast-middle"; did you mean --upstream 10.0.0.1?`},
	{`middle f.bin`, `unknown command "f.bin" for "shardcast-middle"`},
	{`middle --servers a`, `unknown flag: --servers; did you mean --upstream?`},
	{`middle --upstream ftp://x`, `--upstream: "ftp://x" is not the address of a server: the scheme is not http or`},
	{`middle --upstream 127.0.0.1:99999`, `--upstream: "127.0.0.1:99999" is not the address of a server: the port`},
	{`middle --upstream ,`, `--upstream: it names no server`},
	{`middle --upstream (a`, `--upstream: the closing parenthesis is missing`},
	{`middle --upstream a --check-interval 0`, `--check-interval "0": want a number of seconds above 0`},
	{`middle --upstream a --timeout soon`, `--timeout "soon": want a number of seconds above 0`},
	{`middle --upstream a --attempts 0`, `--attempts "0": want a whole number from 1`},
	{`middle --upstream a --max-versions 20000`, `--max-versions: 20000, want up to 10000`},
	{`middle --upstream a --max-connections-per-client=-1`, `--max-connections-per-client "-1": want a whole number`},
	{`middle --upstream a --limit-rate 50MB/m`, `--limit-rate "50MB/m": want 1 byte per second or more`},
	{`middle --upstream a --ca-file missing.pem`, `--ca-file: open missing.pem: no such file`},
	{`middle --upstream a --ca-file f.bin`, `--ca-file: read f.bin: it has no certificates in PEM`},
	{`middle --upstream a --netrc missing`, `--netrc "missing": open missing: no such file`},
	{`middle --upstream a --netrc f.bin`, `--netrc "f.bin": others may read it: run chmod 600 f.bin`},

	{`client`, `give --list, --version or both`},
	{`client --list`, `no server to fetch from: give --servers or set IP_ADDR_LIST`},
	{`client --servers a`, `give --list, --version or both`},
	{`client --servers a --list f.bin`, `unknown command "f.bin" for "shardcast-client"`},
	{`client --servers a latest`, `unknown command "latest" for "shardcast-client"; did you mean --version latest?`},
	{`client --servers a v3`, `unknown command "v3" for "shardcast-client"; did you mean --version v3?`},
	{`client --servers a step=7`, `unknown command "step=7" for "shardcast-client"; did you mean --version step=7?`},
	{`client a:8000 --list`, `unknown command "a:8000" for "shardcast-client"; did you mean --servers a:8000?`},
	{`client --servers a --list --quorum 1`, `--quorum has no effect without --version latest`},
	{`client --servers a --version v1 --quorum 1`, `--quorum has no effect without --version latest`},
	{`client --servers a --list --swarm`, `--swarm has no effect with --list`},
	{`client --servers a --version 3`, `--version: "3" is not a version: want v1, v2, v3 and so on, or latest`},
	{`client --servers a --version v0`, `--version: "v0" is not a version`},
	{`client --servers a --version ../x`, `--version: "../x" is not a version`},
	{`client --servers a --verson v1`, `unknown flag: --verson; did you mean --version?`},
	{`client --servers a --version v1 --wait=-1`, `--wait "-1": want a number of seconds from 0 up to a year`},
	{`client --servers a --version v1 --wait long`, `--wait "long": want a number of seconds from 0 up to a year`},
	{`client --servers a --version v1 --seed-for 5`, `--seed-for has no effect without --swarm`},
	{`client --servers a --version v1 --port 5`, `--port has no effect without --swarm`},
	{`client --servers a --version v1 --progress bars`, `--progress "bars": want auto, bar, plain, json or none`},
	{`client --servers a --list --limit-rate=-5MB`, `--limit-rate "-5MB": want 1 byte per second or more`},
	{`client --upstream a --list`, `unknown flag: --upstream; did you mean --servers?`},
	{`client --servers ftp://a --list`, `--servers: "ftp://a" is not the address of a server: the scheme is not http`},
	{`client --servers 127.0.0.1:1 --list`, `5 ask for the versions: no server reachable: http://127.0.0.1:1/`},
	{`client folow`, `unknown command "folow" for "shardcast-client"; did you mean follow?`},
	{`client follow`, `no server to fetch from: give --servers or set IP_ADDR_LIST`},
	{`client --server a`, `unknown flag: --server; did you mean --servers?`},
	{
		`client follow a:8000`,
		`unexpected argument "a:8000": 'shardcast-client follow' takes none; did you mean --servers a:8000?`,
	},
	{`client help folow`, `unknown command "folow" for "shardcast-client"; did you mean follow?`},
	{`client follow x`, `unexpected argument "x": 'shardcast-client follow' takes none`},
	{`client follow --servers a --from 7`, `--from: "7" is not a version`},
	{`client follow --servers a --all --skip-stale`, `--skip-stale: it leaves out versions`},
	{`client follow --servers a --keep 0`, `--keep "0": want a whole number from 1`},
	{`client follow --servers a --output-template {x}`, `--output-template: "{x}": want`},
	{`client follow --servers a --output-template ../{n}`, `--output-template: "../{n}": want a path that stays`},
	{`client follow --servers a --marker a/b`, `--marker: "a/b": want the name of a file`},
	{`client follow --servers a --output-template f{n} --marker m`, `--marker: one beside each version wants`},
	{`client follow --servers a --link ../x`, `--link: "../x": want the name of a file`},
	{`client follow --servers a --exec-timeout 5`, `--exec-timeout has no effect without --exec`},
	{`client follow --servers a --exec x --exec-timeout 0`, `--exec-timeout "0": want a number of seconds above 0`},
	{`client follow --output-file x`, `unknown flag: --output-file; it is a flag of 'shardcast-client'`},
	{`client follow --servers a --output-dir f.bin`, `1 follow into f.bin: `},

	{`SHARDCAST_SHARD_SIZE=lots origin broadcast f.bin`, `environment variable SHARDCAST_SHARD_SIZE "lots": want a`},
	{`SHARDCAST_SWARM=yes origin`, `environment variable SHARDCAST_SWARM "yes": want 1, 0, true or false`},
	{
		`SHARDCAST_MAX_DISTRIBUTION_FOLDERS=20000 origin`,
		`environment variable SHARDCAST_MAX_DISTRIBUTION_FOLDERS: 20000, want up to 10000`,
	},
	{`SHARDCAST_CORS=x origin`, `environment variable SHARDCAST_CORS: "x", want a site`},
	{`IP_ADDR_LIST=ftp://x middle`, `environment variable IP_ADDR_LIST: "ftp://x" is not the address of a server`},
	{`IP_ADDR_LIST=(a client --list`, `environment variable IP_ADDR_LIST: the closing parenthesis is missing`},
	{`SHARDCAST_HTTP_PORT=0 client --servers a --list`, `environment variable SHARDCAST_HTTP_PORT: want a port from 1`},
	{
		`SHARDCAST_OUTPUT_TEMPLATE={x} client follow --servers a`,
		`environment variable SHARDCAST_OUTPUT_TEMPLATE: "{x}": want no braces`,
	},
}

func TestWrongUsageGetsOneClearSentence(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "f.bin"), []byte("file"), 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	for _, usage := range wrong {
		words := strings.Fields(usage[0])
		var env []string
		for strings.Contains(words[0], "=") {
			env, words = append(env, words[0]), words[1:]
		}
		message, code := usage[1], 2
		if number, rest, ok := strings.Cut(message, " "); ok && len(number) == 1 {
			message, code = rest, int(number[0]-'0')
		}
		cmd := exec.CommandContext(ctx, filepath.Join(binaries, "shardcast-"+words[0]), words[1:]...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		require.NotNil(t, cmd.ProcessState, err)
		assert.Equal(t, code, exitCode(cmd.ProcessState), "%s: %s", usage[0], out)
		assert.Contains(t, string(out), "shardcast-"+words[0]+": "+message, usage[0])
		assert.Equal(t, code == 2, strings.Contains(string(out), "--help' for its flags.\n"), "%s: %s", usage[0], out)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 2, "wrong usage changes nothing")
}

func TestTheHintNamesTheSubcommand(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"origin --nonsense":           "Run 'shardcast-origin --help' for its flags.\n",
		"origin broadcast --nonsense": "Run 'shardcast-origin broadcast --help' for its flags.\n",
		"client follow --keep 0":      "Run 'shardcast-client follow --help' for its flags.\n",
	} {
		words := strings.Fields(args)
		out, err := command(t.Context(), t, "shardcast-"+words[0], words[1:]...).CombinedOutput()
		require.Error(t, err)
		assert.True(t, strings.HasSuffix(string(out), want), "%s", out)
	}
}
