package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/scripts/internal/file"
)

const (
	// arrival is how long the file takes that many read while it arrives.
	arrival = 4 * time.Second

	// sharedShards is how many shards it has, of which the last is read.
	sharedShards = 4

	// slowStep in bytes is what a slow reader reads at a time, 100 KB/s in all.
	slowStep = 5000
	slowTick = 50 * time.Millisecond

	// slowBuffer in bytes is what the system may receive ahead of a slow reader,
	// which would otherwise not be slow for the first megabytes.
	slowBuffer = 64 << 10

	// extra is how long slow readers go on when all has arrived.
	extra = 2 * time.Second
)

// sharing is what many readers of one arriving shard have come to.
type sharing struct {
	copies   float64 // how many times the shard was fetched
	requests float64 // in how many requests
	early    int64   // readers that began before all of it had arrived
	failed   error   // of one of them
}

// manyReaders measures what a middle fetches of a shard that many ask it for while
// it arrives.
func (b *bench) manyReaders(ctx context.Context) error {
	size := b.size / file.Bytes(b.shards) * sharedShards
	rate := file.Bytes(float64(size) / arrival.Seconds())
	heading("readers: %d of one shard of %d bytes that arrives at %s/s, %d rounds", b.readers, size/sharedShards, rate.String(), b.rounds)
	f, err := file.Random(ctx, filepath.Join(b.dir, "file.bin"), size, b.seed)
	if err != nil {
		return err
	}
	var copies, requests, early []float64
	for range b.rounds {
		err := b.round(ctx, arrival, func(ctx context.Context, dir string) error {
			got, err := b.share(ctx, dir, f.Name, size, rate)
			if err != nil {
				return err
			}
			if got.failed != nil {
				b.miss("readers: not all of them got the shard: %v", got.failed)
			}
			if got.early < int64(b.readers) {
				b.miss("readers: %d of %d began while the shard arrived", got.early, b.readers)
			}
			copies, requests, early = append(copies, got.copies), append(requests, got.requests), append(early, float64(got.early))
			return nil
		})
		if err != nil {
			return err
		}
	}
	if median := row("copies of it that the middle fetched", copies, mostCopies); median > mostCopies {
		b.miss("readers: the middle fetched the shard %.2f times, and once is enough", median)
	}
	row("in so many requests", requests, 0)
	row("readers that began while it arrived", early, 0)
	return os.Remove(f.Name)
}

// share is a round of [bench.manyReaders].
func (b *bench) share(ctx context.Context, dir, name string, size, rate file.Bytes) (got sharing, err error) {
	var through *counter
	p := plan{originRate: rate, feeds: []int{origin}, through: func(origin string) string {
		through = newCounter(origin)
		return through.address
	}}
	n, err := b.start(ctx, dir, p, int64(size+sharedShards-1)/sharedShards)
	if through != nil {
		defer through.Close()
	}
	if err != nil {
		return got, err
	}
	defer n.close()
	published, err := n.publish(ctx, name)
	if err != nil {
		return got, err
	}
	if _, err := n.servers[1].listedAt(ctx, published.version); err != nil {
		return got, err
	}
	m, err := manifest(ctx, n.servers[origin].address, published.version)
	if err != nil {
		return got, err
	}
	want := m.Shard(len(m.Shards))
	path := fmt.Sprintf("/%s/%s", published.version, shard.FileName(want.Number))
	fetched := through.shard(path)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var early atomic.Int64
	var group errgroup.Group
	for range b.readers {
		group.Go(func() error {
			if fetched.bytes.Load() < want.Size {
				early.Add(1)
			}
			return read(ctx, &client, "http://"+n.servers[1].address+path, want.Digest)
		})
	}
	got.failed = group.Wait()
	got.early = early.Load()
	if err := held(ctx, n.servers[1].dir, published.version); err != nil {
		return got, err
	}
	got.copies = float64(fetched.bytes.Load()) / float64(want.Size)
	got.requests = float64(fetched.requests.Load())
	return got, context.Cause(ctx)
}

// manifest fetches that of a version.
func manifest(ctx context.Context, address string, v shard.Version) (m shard.Manifest, err error) {
	resp, err := get(ctx, http.DefaultClient, "http://"+address+"/"+v.String()+"/manifest.json")
	if err != nil {
		return m, err
	}
	defer resp.Body.Close()
	return shard.ParseManifest(resp.Body)
}

// get is answered with 200.
func get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("%s: %s", url, resp.Status), resp.Body.Close())
	}
	return resp, err
}

// read reads what must have digest.
func read(ctx context.Context, client *http.Client, url string, digest shard.Digest) error {
	resp, err := get(ctx, client, url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, resp.Body); err != nil {
		return err
	}
	if shard.Digest(h.Sum(nil)) != digest {
		return fmt.Errorf("%s: wrong bytes", url)
	}
	return nil
}

// isHeld reports whether a middle has all of v: its distribution.txt on the disk
// lists nothing else.
func isHeld(dir string, v shard.Version) bool {
	text, err := os.ReadFile(filepath.Join(dir, distfile.FileName))
	return err == nil && strings.Contains("\n"+string(text), "\n"+v.String()+": ")
}

// held waits until a middle has all of v.
func held(ctx context.Context, dir string, v shard.Version) error {
	for !isHeld(dir, v) {
		if err := pause(ctx, poll); err != nil {
			return err
		}
	}
	return nil
}

// memory measures the peak of a middle with many slow readers of what arrives.
func (b *bench) memory(ctx context.Context) error {
	heading("memory: %d readers of 100 KB/s, of %d bytes that arrive at %s/s, MiB", b.readers, b.large, b.rate.String())
	f, err := file.Random(ctx, filepath.Join(b.dir, "large.bin"), b.large, b.seed)
	if err != nil {
		return err
	}
	return errors.Join(b.round(ctx, b.ideal(b.large), func(ctx context.Context, dir string) error {
		return b.crowd(ctx, dir, f.Name)
	}), os.Remove(f.Name))
}

// crowd is the round of [bench.memory].
func (b *bench) crowd(ctx context.Context, dir, name string) error {
	n, err := b.start(ctx, dir, plan{originRate: b.rate, feeds: []int{origin}}, b.shardSize())
	if err != nil {
		return err
	}
	defer n.close()
	published, err := n.publish(ctx, name)
	if err != nil {
		return err
	}
	middle := n.servers[1]
	if _, err := middle.listedAt(ctx, published.version); err != nil {
		return err
	}
	early := !isHeld(middle.dir, published.version)
	m, err := manifest(ctx, n.servers[origin].address, published.version)
	if err != nil {
		return err
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	for i := range b.readers {
		url := fmt.Sprintf("http://%s/%s/%s", middle.address, published.version, shard.FileName(i%len(m.Shards)+1))
		group.Go(func() error { return readSlowly(reading, url) })
	}
	err = held(ctx, middle.dir, published.version)
	if err == nil {
		err = pause(ctx, extra)
	}
	stop()
	broken := group.Wait()
	if err != nil {
		return err
	}
	if broken != nil {
		b.miss("memory: a slow reader was broken off: %v", broken)
	}
	if !early {
		b.miss("memory: the slow readers came when all had arrived")
	}
	peak := middle.Peak()
	if peak == 0 {
		return errors.New("the system does not say how much memory a process has taken")
	}
	if row("peak resident memory of the middle", []float64{peak}, mostMemory); peak >= mostMemory {
		b.miss("memory: the middle's peak is %.1f MiB, and it must be less than %d", peak, mostMemory)
	}
	return nil
}

// readSlowly reads until ctx or the shard ends, and returns an error if it is broken
// off before.
func readSlowly(ctx context.Context, url string) error {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetReadBuffer(slowBuffer)
			}
			return conn, err
		},
	}}
	resp, err := get(ctx, &client, url)
	if err == nil {
		defer resp.Body.Close()
		tick := time.NewTicker(slowTick)
		defer tick.Stop()
		for err == nil {
			if _, err = io.CopyN(io.Discard, resp.Body, slowStep); err == nil {
				<-tick.C
			}
		}
	}
	if ctx.Err() != nil || errors.Is(err, io.EOF) { // which is io.ErrUnexpectedEOF if it is early
		return nil
	}
	return err
}
