// Command dist builds the archives of a release, one for each system and processor, and
// SHA256SUMS of them. The same commit and the same Go make the same bytes: all times are
// the commit's, and an archive has nothing else of the machine that built it.
package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// commands are the programs of a release.
var commands = []string{"shardcast-origin", "shardcast-middle", "shardcast-client"}

// texts go with them, from the root of the repository.
var texts = []string{"README.md", "CHANGELOG.md", "LICENSE"}

func main() {
	out := flag.String("out", "dist", "`DIRECTORY` for the archives; those in it are replaced")
	targets := flag.String("targets", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64",
		"`TARGETS`, systems and processors to build for, separated by commas")
	version := flag.String("version", "",
		"`NAME` of the release in the archives' names (default the output of git describe)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *out, *version, strings.Split(*targets, ","), commands)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// A release is common to all archives.
type release struct {
	version  string
	commands []string
	time     time.Time // of all files
	pages    string    // directory of man pages and completions
}

func run(ctx context.Context, out, version string, targets, commands []string) error {
	version = cmp.Or(version, git(ctx, "describe", "--tags", "--always", "--dirty"), "dev")
	r := release{version: version, commands: commands}
	epoch := cmp.Or(os.Getenv("SOURCE_DATE_EPOCH"), git(ctx, "log", "-1", "--format=%ct"), "0")
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	r.time = time.Unix(seconds, 0).UTC()
	work, err := os.MkdirTemp("", "shardcast-dist-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	r.pages = filepath.Join(work, "pages")
	for _, command := range r.commands {
		if err := r.goTool(ctx, nil, "run", "-tags", "pages", "./cmd/"+command, "pages", r.pages); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var sums bytes.Buffer
	slices.Sort(targets)
	for _, target := range targets {
		goos, goarch, ok := strings.Cut(target, "/")
		switch {
		case !ok:
			return fmt.Errorf("target %q: want a system and a processor, such as linux/amd64", target)
		case goos == "windows":
			return fmt.Errorf("target %q: shardcast does not run on Windows; want linux or darwin", target)
		}
		name, data, err := r.archive(ctx, goos, goarch, filepath.Join(work, goos+"-"+goarch))
		if err != nil {
			return fmt.Errorf("target %s: %w", target, err)
		}
		if err := os.WriteFile(filepath.Join(out, name), data, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), name)
	}
	fmt.Print(sums.String())
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), sums.Bytes(), 0o644)
}

// git returns the output of a git command, and nothing outside of a repository.
func git(ctx context.Context, args ...string) string {
	text, err := exec.CommandContext(ctx, "git", args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// goTool runs the go command with env besides the environment.
func (r release) goTool(ctx context.Context, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), fmt.Sprint("SOURCE_DATE_EPOCH=", r.time.Unix()))
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// archive builds the commands into the directory bin, and returns the archive and its
// name.
func (r release) archive(ctx context.Context, goos, goarch, bin string) (string, []byte, error) {
	env := []string{"CGO_ENABLED=0", "GOFLAGS=", "GOOS=" + goos, "GOARCH=" + goarch, "GOAMD64=v1", "GOARM64=v8.0"}
	build := []string{"build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", bin + string(filepath.Separator)}
	for _, command := range r.commands {
		build = append(build, "./cmd/"+command)
	}
	err := r.goTool(ctx, env, build...)
	if err != nil {
		return "", nil, err
	}
	root := fmt.Sprintf("shardcast-%s-%s-%s", r.version, goos, goarch)
	var files []file
	add := func(path, name string, mode fs.FileMode) error {
		data, err := os.ReadFile(path)
		files = append(files, file{name: root + "/" + name, mode: mode, data: data})
		return err
	}
	for _, command := range r.commands {
		if err := add(filepath.Join(bin, command), "bin/"+command, 0o755); err != nil {
			return "", nil, err
		}
	}
	for _, text := range texts {
		if err := add(text, text, 0o644); err != nil {
			return "", nil, err
		}
	}
	for from, to := range map[string]string{r.pages: "", "deploy": "deploy/", "docs": "docs/"} {
		err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			name, err := filepath.Rel(from, path)
			return errors.Join(err, add(path, to+filepath.ToSlash(name), 0o644))
		})
		if err != nil {
			return "", nil, err
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	data, err := tarred(files, r.time)
	return root + ".tar.gz", data, err
}
