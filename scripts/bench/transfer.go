//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shardcast/shardcast/scripts/internal/file"
	"github.com/shardcast/shardcast/scripts/internal/flags"
)

const (
	broadcast = "shardcast-origin broadcast"
	openssl   = "openssl dgst -sha256"
	fromOwn   = "shardcast-client"
	fromNginx = "shardcast-client, from nginx"
	limit     = "bare receive, hash, write"
	teed      = "curl | tee | openssl"
	aria      = "aria2c, cat, openssl"
)

// publishPart measures publishing a file.
func (b *bench) publishPart(ctx context.Context) error {
	f, err := b.main(ctx)
	if err != nil {
		return err
	}
	return b.publish(ctx, "publish", f, b.flags.shardSize)
}

// fetchPart measures downloading and verifying it.
func (b *bench) fetchPart(ctx context.Context) error {
	v, err := b.version(ctx)
	if err != nil {
		return err
	}
	return b.fetch(ctx, "fetch", v)
}

// smallPart measures both with many small shards, without rows that would be the same,
// and without aria2c, which takes longer than all others together.
func (b *bench) smallPart(ctx context.Context) error {
	f, err := b.makeFile(ctx, "small.bin", b.flags.smallShard*flags.Bytes(b.flags.smallShards))
	if err != nil {
		return err
	}
	if err := b.publish(ctx, "small-publish", f, b.flags.smallShard, "cp", "cp, sync"); err != nil {
		return err
	}
	v, err := b.published(ctx, f, filepath.Join(b.dir, "small"), b.flags.smallShard)
	if err != nil {
		return err
	}
	err = b.fetch(ctx, "small-fetch", v, teed, aria, limit+", sync")
	return errors.Join(err, v.remove(), os.Remove(f.Name))
}

// publish measures publishing f, without the rows in without.
func (b *bench) publish(ctx context.Context, name string, f file.File, shardSize flags.Bytes, without ...string) error {
	size := fmt.Sprint(int64(shardSize))
	env := []string{"FILE=" + f.Name, "SHARD=" + size}
	t := &Table{
		Name: name, Title: fmt.Sprintf("%s in shards of %s", f.Size.String(), shardSize.String()),
		Key: Wall, Limit: openssl,
	}
	var tools []tool
	for _, side := range b.sides() {
		run := func(ctx context.Context, dir string) (Sample, error) {
			s, _, err := measured(ctx, int64(f.Size), dir, nil, side.command("origin"), "broadcast", f.Name,
				"--data-dir", "data", "--shard-size", size, "--log-level", "WARNING")
			return s, err
		}
		tools = append(tools, tool{side.of + broadcast, Ours, nil, run})
	}
	return b.table(ctx, t, but(without, append(tools,
		b.shell(openssl, Part, f.Size, env, f.Digest.String(), `exec openssl dgst -sha256 "$FILE"`, "openssl"),
		b.shell("split, openssl", Other, f.Size, env, f.Digest.String(),
			`split -a 4 -d -b "$SHARD" "$FILE" shard_; openssl dgst -sha256 "$FILE"`, "split", "openssl"),
		b.shell("cp", Part, f.Size, env, "", `exec cp "$FILE" copy`, "cp"),
		b.shell("cp, sync", Part, f.Size, env, "", `cp "$FILE" copy; sync copy`, "cp", "sync"),
	)))
}

// fetch measures downloading and verifying v, without the rows in without.
func (b *bench) fetch(ctx context.Context, name string, v version, without ...string) error {
	f := v.file
	var own, tools []tool
	var env []string
	for _, side := range b.sides() {
		origin, err := side.origin(ctx, v)
		if err != nil {
			return err
		}
		defer origin.Kill()
		own = append(own, side.client(fromOwn, f, origin.address, nil))
		if env == nil { // other tools fetch from the origin under test
			if env, err = b.lists(origin.address, v.paths); err != nil {
				return err
			}
		}
	}
	env = append(env, "BENCH="+b.self)
	nginxAddress := ""
	if nginx() != "" {
		n, err := b.nginx(ctx, "", static(v.data))
		if err != nil {
			return err
		}
		defer n.Kill()
		nginxAddress = n.address
	}
	for _, side := range b.sides() {
		tools = append(tools, side.client(fromNginx, f, nginxAddress, []string{"nginx"}))
	}
	tools = append(own, tools...)
	t := &Table{
		Name:  name,
		Title: fmt.Sprintf("%s in shards of %s, received and verified", f.Size.String(), v.shardSize.String()),
		Key:   Wall, Limit: limit,
	}
	return b.table(ctx, t, but(without, append(tools,
		b.shell("curl, openssl", Other, f.Size, env, f.Digest.String(),
			`curl -sSf -K "$CURL" >out; openssl dgst -sha256 out`, "curl", "openssl"),
		b.shell(teed, Other, f.Size, env, f.Digest.String(),
			`curl -sSf -K "$CURL" | tee out | openssl dgst -sha256`, "curl", "openssl"),
		b.shell(aria, Other, f.Size, env, f.Digest.String(),
			`aria2c -q -i "$URLS" -d . -j 10 --file-allocation=none --no-conf
			xargs cat <"$NAMES" >out; openssl dgst -sha256 out`, "aria2c", "openssl"),
		b.shell("wget, openssl", Other, f.Size, env, f.Digest.String(),
			`wget -q --no-config -O out -i "$URLS"; openssl dgst -sha256 out`, "wget", "openssl"),
		b.shell(limit, Part, f.Size, env, f.Digest.String(), `exec "$BENCH" bare "$URLS" out`),
		b.shell(limit+", sync", Part, f.Size, env, f.Digest.String(), `exec "$BENCH" bare "$URLS" out sync`),
	)))
}

// but is tools without some.
func but(without []string, tools []tool) []tool {
	return slices.DeleteFunc(tools, func(t tool) bool { return slices.Contains(without, t.name) })
}

// client is a row of our client.
func (b *bench) client(name string, f file.File, address string, needs []string) tool {
	t := b.clientWith(name, f, address, nil)
	t.needs = needs
	return t
}

// clientWith is a row of our client with further variables of its environment and arguments.
func (b *bench) clientWith(name string, f file.File, address string, env []string, args ...string) tool {
	checked := false
	return tool{b.of + name, Ours, nil, func(ctx context.Context, dir string) (Sample, error) {
		s, _, err := measured(ctx, int64(f.Size), dir, env, b.command("client"), append([]string{
			"--servers", address,
			"--version", "v1", "--output-file", "out", "--progress", "none", "--log-level", "WARNING",
		}, args...)...)
		if err != nil || checked {
			return s, err
		}
		checked = true
		if got, err := file.Digest(filepath.Join(dir, "out")); err != nil || got != f.Digest {
			return nil, errors.Join(err, errors.New("the file is wrong"))
		}
		return s, nil
	}}
}

// lists writes the lists of shards for other tools, and returns variables with the names
// of these files.
func (b *bench) lists(address string, paths []string) (env []string, err error) {
	var urls, curl, names strings.Builder
	for _, path := range paths {
		fmt.Fprintf(&urls, "http://%s%s\n", address, path)
		fmt.Fprintf(&curl, "url = \"http://%s%s\"\n", address, path)
		fmt.Fprintln(&names, filepath.Base(path))
	}
	for name, text := range map[string]string{"URLS": urls.String(), "CURL": curl.String(), "NAMES": names.String()} {
		file := filepath.Join(b.dir, strings.ToLower(name)+".list")
		env = append(env, name+"="+file)
		err = errors.Join(err, os.WriteFile(file, []byte(text), 0o600))
	}
	return env, err
}
