package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"regexp"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// readCommand as the first argument makes this program many readers of a server, or
	// one of its metrics.
	readCommand = "read"

	// Kinds of readers.
	shared  = "shared"  // all read the last shard at the same time
	slowly  = "slowly"  // each reads another shard slowly until its process ends
	metrics = "metrics" // a single one prints the server's metrics

	// crowd is the number of readers.
	crowd = 64

	// sharedShards and crowdShards are the numbers of shards of the files that they read.
	sharedShards = 4
	crowdShards  = 16

	// slowStep in bytes is the amount that a slow reader reads at a time: 100 KB/s in all.
	slowStep = 5000
	slowTick = 50 * time.Millisecond

	// slowBuffer in bytes bounds the data that the system receives ahead of a slow
	// reader, which would otherwise not be slow for the first megabytes.
	slowBuffer = 64 << 10

	// extra is the time for which slow readers go on when all has arrived.
	extra = 2 * time.Second
)

// sharing has many readers beside a middle read one shard while it arrives, and counts
// how often the middle has fetched that.
func sharing(ctx context.Context, t *trial) (s Sample, err error) {
	s, err = t.measure(ctx, t.startOthers, func(ctx context.Context) error {
		p, err := t.beside(ctx, 1, readCommand, shared)
		if err == nil {
			_, err = p.Wait()
		}
		return err
	})
	if err != nil {
		return s, err
	}
	p, err := t.beside(ctx, 1, readCommand, metrics)
	if err != nil {
		return s, err
	}
	if _, err := p.Wait(); err != nil {
		return s, err
	}
	bytes, err := received(p.Log())
	s.Copies = 1 + (bytes-float64(t.lab.size))/float64(t.shardSize)
	return s, err
}

// receivedLine is a line of a middle's metrics: the bytes of shards from one upstream.
var receivedLine = regexp.MustCompile(`(?m)^shardcast_received_bytes_total\{.*\} (\S+)$`)

// received is the sum of the bytes of shards that a middle has received, by its metrics.
func received(text string) (sum float64, err error) {
	found := receivedLine.FindAllStringSubmatch(text, -1)
	if len(found) == 0 {
		return 0, errors.New("the middle's metrics have no received bytes")
	}
	for _, f := range found {
		n, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// crowding has many slow readers beside a middle while a file arrives.
func crowding(ctx context.Context, t *trial) (Sample, error) {
	var readers *process.Process
	s, err := t.measure(ctx, t.startOthers, func(context.Context) (err error) {
		if readers, err = t.beside(ctx, 1, readCommand, slowly); err != nil {
			return err
		}
		if _, err = readers.Await("reading"); err == nil && t.nodes[1].process.Logged("msg=fetched") {
			err = errors.New("the slow readers came when all had arrived")
		}
		return err
	})
	if err != nil {
		return s, err
	}
	if err := pause(ctx, extra); err != nil {
		return s, err
	}
	select {
	case <-readers.Ended():
		return s, readers.Failed(errors.New("the middle broke off a slow reader"))
	default:
	}
	if s.Peak = t.nodes[1].peak(); s.Peak == 0 {
		err = errors.New("the system does not report the memory of a process")
	}
	return s, err
}

// read reads from a server as readers of a kind do.
func read(ctx context.Context, server, kind string) error {
	url := "http://" + server + "/"
	if kind == metrics {
		resp, err := get(ctx, http.DefaultClient, url+"metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(os.Stdout, resp.Body)
		return err
	}
	w := watcher{url: url + "distribution.txt", seen: make(map[shard.Version]bool)}
	if err := w.lists(ctx, 1); err != nil {
		return err
	}
	resp, err := get(ctx, http.DefaultClient, url+"v1/manifest.json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	m, err := shard.ParseManifest(resp.Body)
	if err != nil {
		return err
	}
	if kind == slowly {
		return readSlowly(ctx, url, len(m.Shards))
	}
	return readShared(ctx, url, m.Shard(len(m.Shards)))
}

// readShared has all readers read one shard at the same time, and fails unless each of
// them began before the first one had it.
func readShared(ctx context.Context, url string, want shard.Shard) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var mu sync.Mutex // guards lastBegin and firstEnd
	var lastBegin, firstEnd time.Time
	var group errgroup.Group
	for range crowd {
		group.Go(func() error {
			var began time.Time
			ctx := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
				GotFirstResponseByte: func() { began = time.Now() },
			})
			resp, err := get(ctx, client, url+"v1/"+shard.FileName(want.Number))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			h := sha256.New()
			if _, err := io.Copy(h, resp.Body); err != nil {
				return err
			}
			if shard.Digest(h.Sum(nil)) != want.Digest {
				return errors.New("a reader got wrong bytes")
			}
			mu.Lock()
			defer mu.Unlock()
			if firstEnd.IsZero() {
				firstEnd = time.Now()
			}
			if began.After(lastBegin) {
				lastBegin = began
			}
			return nil
		})
	}
	err := group.Wait()
	if err == nil && lastBegin.After(firstEnd) {
		err = errors.New("a reader began when another had the shard")
	}
	return err
}

// readSlowly reads all shards slowly until ctx ends, and prints a line when all readers
// have begun. It fails when the server breaks off one of them.
func readSlowly(ctx context.Context, url string, shards int) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialSlowly}}
	var begun, all sync.WaitGroup
	begun.Add(crowd)
	failed := make(chan error, crowd)
	for i := range crowd {
		all.Go(func() {
			resp, err := get(ctx, client, url+"v1/"+shard.FileName(i%shards+1))
			begun.Done()
			if err == nil {
				defer resp.Body.Close()
				err = trickle(resp.Body)
			}
			if err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}
	begun.Wait()
	fmt.Println("reading")
	defer all.Wait()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// trickle reads slowly to the end.
func trickle(body io.Reader) error {
	tick := time.NewTicker(slowTick)
	defer tick.Stop()
	for {
		if _, err := io.CopyN(io.Discard, body, slowStep); errors.Is(err, io.EOF) {
			return nil // io.ErrUnexpectedEOF would be an early one
		} else if err != nil {
			return err
		}
		<-tick.C
	}
}

// dialSlowly connects with a small receive buffer.
func dialSlowly(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(slowBuffer)
	}
	return conn, err
}

// get returns an answer of status 200.
func get(ctx context.Context, client *http.Client, url string) (*http.Response, error) {
	return getWith(ctx, client, url, "Accept", "*/*")
}

// getWith is get with a field in the request.
func getWith(ctx context.Context, client *http.Client, url, field, value string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set(field, value)
	resp, err := client.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("%s: %s", url, resp.Status), resp.Body.Close())
	}
	return resp, err
}
