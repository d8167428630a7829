// Command dist builds the archives of a release, one for each system and processor, the wheels of
// its Python package, and SHA256SUMS of them. The same commit and the same Go make the same bytes: all times are
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
	kinds := flag.String("kinds", "archives,wheels", "`KINDS` of files to build, separated by commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	r := release{version: *version, commands: commands, kinds: strings.Split(*kinds, ",")}
	err := r.build(ctx, *out, strings.Split(*targets, ","))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// A release is common to all archives and wheels.
type release struct {
	version  string // or empty for the output of git describe
	commands []string
	kinds    []string
	time     time.Time // of all files
	pages    string    // directory of man pages and completions
}

// The kinds of files.
const archives, wheels = "archives", "wheels"

// build builds the release for targets into the directory out.
func (r release) build(ctx context.Context, out string, targets []string) error {
	for _, kind := range r.kinds {
		if kind != archives && kind != wheels {
			return fmt.Errorf("kind %q: want %s or %s", kind, archives, wheels)
		}
	}
	r.version = cmp.Or(r.version, git(ctx, "describe", "--tags", "--always", "--dirty"), "dev")
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
	if slices.Contains(r.kinds, archives) {
		for _, command := range r.commands {
			if err := r.goTool(ctx, nil, "run", "-tags", "pages", "./cmd/"+command, "pages", r.pages); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var built []file
	for _, target := range targets {
		files, err := r.target(ctx, target, work)
		if err != nil {
			return fmt.Errorf("target %q: %w", target, err)
		}
		built = append(built, files...)
	}
	if slices.Contains(r.kinds, wheels) {
		name, data, err := r.wheel(anyPlatform, "")
		if err != nil {
			return err
		}
		built = append(built, file{name: name, data: data})
	}
	return write(out, built)
}

// write writes the built files and their SHA256SUMS into the directory out.
func write(out string, built []file) error {
	slices.SortFunc(built, func(a, b file) int { return strings.Compare(a.name, b.name) })
	var sums bytes.Buffer
	for _, f := range built {
		if err := os.WriteFile(filepath.Join(out, f.name), f.data, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(f.data), f.name)
	}
	fmt.Print(sums.String())
	return os.WriteFile(filepath.Join(out, "SHA256SUMS"), sums.Bytes(), 0o644)
}

// target builds the commands for a target, below the directory work, and returns the archive and
// the wheel of them.
func (r release) target(ctx context.Context, target, work string) (built []file, err error) {
	goos, goarch, ok := strings.Cut(target, "/")
	switch {
	case !ok:
		return nil, errors.New("want a system and a processor, such as linux/amd64")
	case goos == "windows":
		return nil, errors.New("shardcast does not run on Windows; want linux or darwin")
	}
	bin := filepath.Join(work, goos+"-"+goarch)
	if err := r.compile(ctx, goos, goarch, bin); err != nil {
		return nil, err
	}
	if slices.Contains(r.kinds, archives) {
		name, data, err := r.archive(goos, goarch, bin)
		if err != nil {
			return nil, err
		}
		built = append(built, file{name: name, data: data})
	}
	if slices.Contains(r.kinds, wheels) {
		name, data, err := r.wheel(target, bin)
		if err != nil {
			return nil, err
		}
		built = append(built, file{name: name, data: data})
	}
	return built, nil
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

// compile builds the commands into the directory bin.
func (r release) compile(ctx context.Context, goos, goarch, bin string) error {
	env := []string{"CGO_ENABLED=0", "GOFLAGS=", "GOOS=" + goos, "GOARCH=" + goarch, "GOAMD64=v1", "GOARM64=v8.0"}
	build := []string{"build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", bin + string(filepath.Separator)}
	for _, command := range r.commands {
		build = append(build, "./cmd/"+command)
	}
	return r.goTool(ctx, env, build...)
}

// archive returns the archive of the commands in the directory bin, and its name.
func (r release) archive(goos, goarch, bin string) (string, []byte, error) {
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
