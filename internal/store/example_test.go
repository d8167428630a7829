package store_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

func Example() {
	dir, err := os.MkdirTemp("", "data")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := publishAndRead(context.Background(), dir, "hello, world"); err != nil {
		panic(err)
	}
	// Output:
	// v1: 09ca7e4eaa6e8ae9c7d261167129184883644d07dfba7cbfbc4c8a2e08360d5b
	// shard 2 holds "world"
}

func publishAndRead(ctx context.Context, dir, text string) error {
	st, err := store.Open(dir, store.Origin)
	if err != nil {
		return err
	}
	defer st.Close() //nolint:errcheck // of what was only read

	// Publish: one writer at a time fills a draft of the next version.
	w, err := st.Lock(ctx)
	if err != nil {
		return err
	}
	version, err := w.Next()
	if err != nil {
		return err
	}
	draft, err := st.Draft(version)
	if err != nil {
		return err
	}
	m, err := shard.Cut(ctx, strings.NewReader(text),
		shard.Plan{Size: int64(len(text)), ShardSize: 7, Create: draft.Create})
	if err != nil {
		return err
	}
	m.Name, m.Date = "hello.txt", time.Now()
	if err := w.Publish(draft, m); err != nil {
		return err
	}
	if err := w.Unlock(); err != nil {
		return err
	}

	// Read: what is on offer, and one shard of it.
	entries, err := st.Distribution()
	if err != nil {
		return err
	}
	for _, e := range entries {
		fmt.Printf("%s: %s\n", e.Version, e.Digest)
	}
	f, done, err := st.Shard(version, 2)
	if err != nil {
		return err
	}
	defer done()
	defer f.Close()
	data, err := io.ReadAll(f)
	fmt.Printf("shard 2 holds %q\n", data)
	return err
}
