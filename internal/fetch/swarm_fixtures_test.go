package fetch_test

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/fetch"
)

// peer adds a node of a swarm, which announces its shards by lines.
func (n *network) peer(i int, speed float64, lines ...string) *host {
	return n.host(fmt.Sprintf("192.0.2.%d", 10+i), speed).answer("/v1/have", announces(lines...))
}

// announces sends lines, and then every two seconds an empty line, which is no change.
func announces(lines ...string) http.HandlerFunc {
	return announcesFrom(func(announce func(lines ...string), over <-chan struct{}) {
		announce(lines...)
		<-over
	})
}

// announcesFrom sends the lines that run announces, which may take its time until over is
// closed.
func announcesFrom(run func(announce func(lines ...string), over <-chan struct{})) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		over := r.Context().Done()
		announced := make(chan string)
		var running sync.WaitGroup
		defer running.Wait()
		running.Go(func() {
			run(func(lines ...string) {
				select {
				case announced <- strings.Join(lines, "\n"):
				case <-over:
				}
			}, over)
		})
		for {
			var line string
			select {
			case line = <-announced:
			case <-time.After(2 * time.Second):
			case <-over:
				return
			}
			_, _ = fmt.Fprintln(w, line)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// lists makes h list peers, and report the standing of the node that asks.
func (h *host) lists(standing string, peers ...*host) *host {
	return h.answer("/peers.txt", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Shardcast-Peer", standing)
		for _, p := range peers {
			_, _ = fmt.Fprintf(w, "http://%s:80\n", p.name)
		}
	})
}

// swarmed is a pool that has joined the swarms of hosts.
func (n *network) swarmed(t *testing.T, opts fetch.Options, hosts ...*host) *fetch.Pool {
	t.Helper()
	opts.Swarm = true
	pool := n.client(t, opts, 1, hosts...)
	require.NoError(t, pool.Refresh(t.Context(), fetch.Soon))
	ctx, leave := context.WithCancel(t.Context())
	var swarm sync.WaitGroup
	swarm.Go(func() { pool.Swarm(ctx, &net.TCPAddr{Port: 8001}, nil) })
	t.Cleanup(func() {
		leave()
		swarm.Wait()
	})
	time.Sleep(200 * time.Millisecond) // of the bubble
	return pool
}

// trySwarm gets the version in the swarms of hosts.
func (n *network) trySwarm(t *testing.T, opts fetch.Options, sink readSink, hosts ...*host) (fetched, error) {
	t.Helper()
	log := new(logbook)
	opts.Logger = cmp.Or(opts.Logger, log.logger())
	pool := n.swarmed(t, opts, hosts...)
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // of the bubble
	defer cancel()
	end, err := relayTo(ctx, pool, sink)
	return fetched{end, time.Since(start), log}, err
}

// readSink is a sink with readers.
type readSink interface {
	fetch.Sink
	fetch.Audience
}

// relayTo fetches the version on offer, and passes it on to others.
func relayTo(ctx context.Context, pool *fetch.Pool, sink readSink) (fetch.Progress, error) {
	_, end, err := pool.Fetch(ctx, fetch.Task{
		Entry: pool.Offers()[0], Audience: func() fetch.Audience { return sink },
		Open:     func(context.Context, fetch.Manifest) (fetch.Sink, error) { return sink, nil },
		Progress: func(fetch.Progress) {},
	})
	return end, err
}

func (n *network) swarm(t *testing.T, hosts ...*host) fetched {
	t.Helper()
	sink := new(memory)
	got, err := n.trySwarm(t, fetch.Options{}, sink, hosts...)
	require.NoError(t, err)
	n.checkResult(t, sink, got.Progress)
	return got
}

// how returns the way in which a node of a swarm asked.
func (r request) how() string { return r.header.Get("Shardcast-Swarm") }

// number is that of the shard.
func (r request) number() int {
	var number int
	_, _ = fmt.Sscanf(r.path, "/v1/shard_%d.bin", &number)
	return number
}

// numbers returns the numbers of the shards that were asked of a host, ascending.
func (h *host) numbers() []int {
	var numbers []int
	for _, r := range h.asked() {
		numbers = append(numbers, r.number())
	}
	slices.Sort(numbers)
	return numbers
}

func upTo(n int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i + 1
	}
	return numbers
}
