//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
)

// benchFeed names the list of versions that the key of the bench signs.
const benchFeed = "bench"

// signedPart measures downloading and verifying the file with the publisher's key, where each
// worker hashes what it receives, beside the same without a key, where the whole is hashed in
// its order: on one core and on two.
func (b *bench) signedPart(ctx context.Context) error {
	v, err := b.version(ctx)
	if err != nil {
		return err
	}
	key := filepath.Join(b.dir, "publisher.key")
	for _, args := range [][]string{
		{"keygen", "--key-file", key, "--no-password", "--feed", benchFeed},
		{
			"sign", "--adopt", "--data-dir", v.data, "--sign-key", key, "--feed", benchFeed,
			"--state-dir", filepath.Join(b.dir, "signed-state"),
		},
	} {
		if _, _, err := measured(ctx, int64(v.file.Size), b.dir, nil, b.command("origin"), args...); err != nil {
			return err
		}
	}
	origin, err := b.origin(ctx, v)
	if err != nil {
		return err
	}
	defer origin.Kill()
	t := &Table{
		Name:  "signed-fetch",
		Title: fmt.Sprintf("%s in shards of %s, with and without a key", v.file.Size.String(), v.shardSize.String()),
		Key:   Wall, Limit: row("no key", 1),
	}
	with := []string{"--key", filepath.Join(b.dir, "publisher.pub"), "--feed", benchFeed, "--state-dir", "state"}
	var tools []tool
	for _, cores := range []int{1, 2} {
		env := []string{fmt.Sprintf("GOMAXPROCS=%d", cores)}
		tools = append(tools,
			b.clientWith(row("no key", cores), v.file, origin.address, env),
			b.clientWith(row("--key", cores), v.file, origin.address, env, with...),
			b.clientWith(row("--key --verify-stream", cores), v.file, origin.address, env,
				append([]string{"--verify-stream"}, with...)...))
	}
	return b.table(ctx, t, tools)
}

// row is the name of a row.
func row(of string, cores int) string {
	return fmt.Sprintf("%s, %s, GOMAXPROCS %d", fromOwn, of, cores)
}
