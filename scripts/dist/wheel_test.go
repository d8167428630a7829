package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// use publishes and fetches a version with the package that is installed, and prints where its programs are.
const use = `
import shardcast
from shardcast._programs import find
with shardcast.Origin("data", host="127.0.0.1", port=0) as origin:
    origin.broadcast(b"published", name="w")
    got = shardcast.Client(origin.address).download("latest", "memory")
    assert got.memory == b"published", got
print(shardcast.__version__, find("shardcast-client"))
`

func TestWheelsAreInstalledAndUsed(t *testing.T) {
	python := "/usr/bin/python3"
	if exec.Command(python, "-c", "import ensurepip, venv").Run() != nil {
		t.Skip("there is no python3-venv")
	}
	t.Chdir("../..")
	dir := t.TempDir()
	r := release{version: "v0.1.2", commands: commands}
	bin := filepath.Join(dir, "programs")
	require.NoError(t, r.compile(t.Context(), runtime.GOOS, runtime.GOARCH, bin))
	work := filepath.Join(dir, "work")
	require.NoError(t, os.Mkdir(work, 0o755))
	run := func(path string, argv ...string) string {
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Dir, cmd.Stderr = work, os.Stderr
		cmd.Env = append(os.Environ(), "PATH="+path, "SHARDCAST_BIN=", "PYTHONPATH=")
		out, err := cmd.Output()
		require.NoError(t, err, argv)
		return strings.TrimSpace(string(out))
	}
	installed := filepath.Join(dir, "venv", "bin")
	run("", python, "-m", "venv", filepath.Join(dir, "venv"))
	for target, programs := range map[string]string{runtime.GOOS + "/" + runtime.GOARCH: installed, anyPlatform: bin} {
		name, data, err := r.wheel(target, bin)
		require.NoError(t, err)
		wheel := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(wheel, data, 0o600))
		run("", filepath.Join(installed, "pip"), "install", "-q", "--no-index", "--no-deps", "--force-reinstall",
			"--disable-pip-version-check", wheel)
		got := run(bin, filepath.Join(installed, "python"), "-c", use)
		assert.Equal(t, "0.1.2 "+filepath.Join(programs, "shardcast-client"), got)
		if target != anyPlatform {
			got := run("", filepath.Join(installed, "shardcast-middle"), "version")
			assert.Contains(t, got, "shardcast-middle ")
		}
		run("", filepath.Join(installed, "pip"), "uninstall", "-q", "-y", "shardcast-go")
	}
}
