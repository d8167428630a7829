package swarm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/swarm"
)

var (
	errSilent = errors.New("it does not answer")

	here = netip.MustParseAddr("192.0.2.1")
)

// tracker is a Members with nodes of a test.
type tracker struct {
	members *swarm.Members
	answers answers
	log     bytes.Buffer // of warnings

	mu      sync.Mutex // guards what follows
	dialled []netip.AddrPort
	now     int // probes
	most    int // probes at the same time
	byHost  map[netip.Addr]int
	crowded bool // two of one host were probed at the same time
}

// answers returns when the node at an address answers, and whether it does.
type answers func(at netip.AddrPort) (after time.Duration, err error)

// track runs f with a Members and these nodes, on a clock of its own.
func track(t *testing.T, nodes answers, f func(t *testing.T, ms *tracker), allow ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ms := &tracker{answers: nodes, byHost: make(map[netip.Addr]int)}
		warnings := slog.NewTextHandler(&ms.log, &slog.HandlerOptions{Level: slog.LevelWarn})
		opts := swarm.MembersOptions{Probe: ms.probe, Logger: slog.New(warnings)}
		for _, prefix := range allow {
			opts.Allow = append(opts.Allow, netip.MustParsePrefix(prefix))
		}
		ms.members = swarm.NewMembers(opts)
		defer ms.members.Close()
		f(t, ms)
	})
}

func (ms *tracker) probe(ctx context.Context, p swarm.Peer) error {
	at := p.At
	ms.mu.Lock()
	ms.dialled = append(ms.dialled, at)
	ms.now++
	ms.most = max(ms.most, ms.now)
	ms.byHost[at.Addr()]++
	ms.crowded = ms.crowded || ms.byHost[at.Addr()] > 1
	ms.mu.Unlock()
	after, err := ms.answers(at)
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(after):
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.now--
	ms.byHost[at.Addr()]--
	return err
}

// join joins a node, and returns its standing when all probes have ended or wait.
func (ms *tracker) join(remote netip.Addr, claim string) swarm.Standing {
	synctest.Wait()
	_, standing := ms.members.Join(remote, claim, swarm.Key{})
	synctest.Wait()
	return standing
}

// probed returns the addresses of all probes so far.
func (ms *tracker) probed() []netip.AddrPort {
	synctest.Wait()
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return slices.Clone(ms.dialled)
}

// mostAtOnce returns the largest number of probes at the same time.
func (ms *tracker) mostAtOnce() int {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return ms.most
}

// inTurn reports whether no two members of one host were probed at the same time.
func (ms *tracker) inTurn() bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return !ms.crowded
}

// peers returns the peers of a reader, and peersOf those of a member.
func (ms *tracker) peers() []string { return ms.peersOf(netip.AddrPort{}) }

func (ms *tracker) peersOf(asker netip.AddrPort) []string {
	synctest.Wait()
	var all []string
	for _, p := range ms.members.Peers(asker) {
		all = append(all, p.At.String())
	}
	slices.Sort(all)
	return all
}

// after returns nodes that answer after dur.
func after(dur time.Duration) answers {
	return func(netip.AddrPort) (time.Duration, error) { return dur, nil }
}

func atOnce(netip.AddrPort) (time.Duration, error) { return 0, nil }

func silent(netip.AddrPort) (time.Duration, error) { return time.Hour, nil }

func dead(netip.AddrPort) (time.Duration, error) { return 0, errSilent }

// number returns the i-th address of 10.0.0.0/8.
func number(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func TestMemberIsListedAfterItsProbe(t *testing.T) {
	track(t, atOnce, func(t *testing.T, ms *tracker) {
		at, standing := ms.members.Join(here, "8001", swarm.Key{})
		assert.Equal(t, "192.0.2.1:8001", at.String())
		assert.Equal(t, swarm.Pending, standing)
		synctest.Wait()
		assert.Equal(t, []string{"192.0.2.1:8001"}, ms.peers())
		assert.Equal(t, 1, ms.members.Count())
		assert.Equal(t, swarm.Listed, ms.join(here, "8001"))
		assert.Equal(t, swarm.Pending, ms.join(netip.MustParseAddr("2001:db8::1"), "8001"))
		assert.Equal(t, []string{"192.0.2.1:8001", "[2001:db8::1]:8001"}, ms.peers())
		for range 10 {
			time.Sleep(10 * time.Second)
			assert.Equal(t, swarm.Listed, ms.join(here, "8001"))
		}
		assert.Len(t, ms.probed(), 2, "a listed member is not probed again")
	})
}

func TestMemberIsNotListedBeforeItsProbeHasEnded(t *testing.T) {
	track(t, after(time.Second), func(t *testing.T, ms *tracker) {
		ms.join(here, "8001")
		assert.Empty(t, ms.peers())
		assert.Equal(t, swarm.Pending, ms.join(here, "8001"))
		assert.Len(t, ms.probed(), 1, "one probe is enough")
		time.Sleep(time.Second)
		assert.Equal(t, swarm.Listed, ms.join(here, "8001"))
		assert.Len(t, ms.peers(), 1)
	})
}

func TestMemberIsForgottenAfterFifteenSeconds(t *testing.T) {
	track(t, atOnce, func(t *testing.T, ms *tracker) {
		ms.join(here, "8001")
		ms.join(here, "8002")
		time.Sleep(15*time.Second - 1)
		ms.join(here, "8002")
		assert.Len(t, ms.peers(), 2)
		time.Sleep(time.Nanosecond)
		assert.Equal(t, []string{"192.0.2.1:8002"}, ms.peers(), "a member that joins again stays")
		assert.Equal(t, 1, ms.members.Count())
		assert.Equal(t, swarm.Pending, ms.join(here, "8001"), "a member that comes back is probed again")
		assert.Len(t, ms.probed(), 3)
		assert.Len(t, ms.peers(), 2)
		time.Sleep(time.Hour)
		assert.Zero(t, ms.members.Count())
	})
}

func TestAnUnreachableMemberIsProbedAgainAfterHalfAMinute(t *testing.T) {
	up := false
	nodes := func(netip.AddrPort) (time.Duration, error) {
		if !up {
			return 0, errSilent
		}
		return 0, nil
	}
	track(t, nodes, func(t *testing.T, ms *tracker) {
		ms.join(here, "8001")
		assert.Equal(t, swarm.Unreachable, ms.join(here, "8001"))
		assert.Empty(t, ms.peers())
		up = true
		for range 5 {
			time.Sleep(5 * time.Second)
			assert.Equal(t, swarm.Unreachable, ms.join(here, "8001"))
		}
		assert.Len(t, ms.probed(), 1)
		time.Sleep(5 * time.Second)
		assert.Equal(t, swarm.Unreachable, ms.join(here, "8001"), "the probe goes on")
		assert.Equal(t, swarm.Listed, ms.join(here, "8001"))
		assert.Len(t, ms.probed(), 2)
	})
}

func TestAMemberHasOneProbeAtATime(t *testing.T) {
	track(t, silent, func(t *testing.T, ms *tracker) {
		for range 5 {
			ms.join(here, "8001")
			time.Sleep(7 * time.Second)
		}
		for range 5 {
			assert.Equal(t, swarm.Unreachable, ms.join(here, "8001"))
		}
		time.Sleep(3 * time.Second)
		assert.Len(t, ms.probed(), 2)
	})
}

func TestAMemberWithoutAnAnswerInTwoSecondsIsUnreachable(t *testing.T) {
	track(t, silent, func(t *testing.T, ms *tracker) {
		ms.join(here, "8001")
		time.Sleep(2*time.Second - 1)
		assert.Equal(t, swarm.Pending, ms.join(here, "8001"))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.Equal(t, swarm.Unreachable, ms.join(here, "8001"))
	})
}

func TestAReaderIsNoMember(t *testing.T) {
	track(t, atOnce, func(t *testing.T, ms *tracker) {
		at, standing := ms.members.Join(here, "0", swarm.Key{})
		assert.Equal(t, swarm.Reader, standing)
		assert.Zero(t, at)
		synctest.Wait()
		assert.Empty(t, ms.probed())
		assert.Zero(t, ms.members.Count())
	})
}

func TestANodeMayClaimItsOwnAddressAndAllowedOnes(t *testing.T) {
	for name, tc := range map[string]struct {
		remote, claim, at string // at is empty for a refusal
	}{
		"its port":                    {"192.0.2.1", "8001", "192.0.2.1:8001"},
		"its own address":             {"192.0.2.1", "192.0.2.1:8001", "192.0.2.1:8001"},
		"mapped into IPv6":            {"::ffff:192.0.2.1", "8001", "192.0.2.1:8001"},
		"its own, mapped":             {"192.0.2.1", "[::ffff:192.0.2.1]:8001", "192.0.2.1:8001"},
		"loopback, from there":        {"127.0.0.1", "8001", "127.0.0.1:8001"},
		"allowed":                     {"192.0.2.1", "198.51.100.7:8001", "198.51.100.7:8001"},
		"allowed, mapped":             {"192.0.2.1", "[::ffff:198.51.100.7]:8001", "198.51.100.7:8001"},
		"allowed IPv6":                {"192.0.2.1", "[2001:db8::7]:8001", "[2001:db8::7]:8001"},
		"another one":                 {"192.0.2.1", "192.0.2.2:8001", ""},
		"one beyond those that are":   {"192.0.2.1", "198.51.101.7:8001", ""},
		"loopback":                    {"192.0.2.1", "127.0.0.1:8001", ""},
		"private":                     {"192.0.2.1", "10.0.0.1:8001", ""},
		"metadata of a cloud":         {"192.0.2.1", "169.254.169.254:80", ""},
		"unspecified, though allowed": {"192.0.2.1", "[::]:8001", ""},
		"multicast, though allowed":   {"192.0.2.1", "[ff02::1]:8001", ""},
		"broadcast, though allowed":   {"192.0.2.1", "255.255.255.255:8001", ""},
		"port 0 of an address":        {"192.0.2.1", "192.0.2.1:0", ""},
		"no port":                     {"192.0.2.1", "192.0.2.1", ""},
		"a name":                      {"192.0.2.1", "localhost:8001", ""},
		"a zone":                      {"192.0.2.1", "[2001:db8::7%eth0]:8001", ""},
		"from a zone":                 {"fe80::1%eth0", "8001", ""},
		"from a zone, as a reader":    {"fe80::1%eth0", "0", ""},
		"from nowhere":                {"", "8001", ""},
		"a port too high":             {"192.0.2.1", "65536", ""},
		"a negative port":             {"192.0.2.1", "-1", ""},
		"a signed port":               {"192.0.2.1", "+1", ""},
		"two ports":                   {"192.0.2.1", "8001,8002", ""},
		"nothing":                     {"192.0.2.1", "", ""},
		"a URL":                       {"192.0.2.1", "http://192.0.2.1:8001", ""},
		"very long":                   {"192.0.2.1", strings.Repeat("8", 10_000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			track(t, atOnce, func(t *testing.T, ms *tracker) {
				var remote netip.Addr
				if tc.remote != "" {
					remote = netip.MustParseAddr(tc.remote)
				}
				at, standing := ms.members.Join(remote, tc.claim, swarm.Key{})
				synctest.Wait()
				if tc.at == "" {
					assert.Equal(t, swarm.Refused, standing)
					assert.Zero(t, at)
					assert.Empty(t, ms.probed())
					assert.Zero(t, ms.members.Count())
					return
				}
				assert.Equal(t, swarm.Pending, standing)
				assert.Equal(t, tc.at, at.String())
				assert.Equal(t, []string{tc.at}, ms.peers())
			}, "198.51.100.0/24", "2001:db8::/32", "::/128", "ff00::/8", "255.255.255.255/32")
		})
	}
}

func TestAMemberIsNotListedToItself(t *testing.T) {
	track(t, atOnce, func(t *testing.T, ms *tracker) {
		ms.join(here, "8001")
		ms.join(here, "8002")
		assert.Equal(t, []string{"192.0.2.1:8002"}, ms.peersOf(netip.AddrPortFrom(here, 8001)))
		for i := range 16 {
			ms.join(number(i), "8000")
		}
		for range 100 {
			peers := ms.peersOf(netip.AddrPortFrom(here, 8001))
			require.Len(t, peers, 16, "as many others exist")
			require.NotContains(t, peers, "192.0.2.1:8001")
		}
	})
}

func TestSixteenAreDrawnAtRandom(t *testing.T) {
	track(t, atOnce, func(t *testing.T, ms *tracker) {
		for i := range 100 {
			ms.join(number(i), "8000")
		}
		times := make(map[string]int)
		for range 1000 {
			peers := ms.peers()
			require.Len(t, slices.Compact(peers), 16)
			for _, p := range peers {
				times[p]++
			}
		}
		assert.Len(t, times, 100)
		for p, n := range times {
			assert.InDelta(t, 160, n, 90, p) // 7 standard deviations
		}
		time.Sleep(10 * time.Second)
		for i := range 10 {
			ms.join(number(7*i), "8000")
		}
		time.Sleep(5 * time.Second)
		var want []string
		for i := range 10 {
			want = append(want, netip.AddrPortFrom(number(7*i), 8000).String())
		}
		slices.Sort(want)
		assert.Equal(t, want, ms.peers(), "the others have left")
	})
}

func TestManyMembersOfOneHostDisplaceNoOtherHost(t *testing.T) {
	atOnce := func(netip.AddrPort) (time.Duration, error) { return 0, nil }
	track(t, atOnce, func(t *testing.T, ms *tracker) {
		for port := range 64 {
			ms.join(here, fmt.Sprint(1000+port))
		}
		var honest []swarm.Peer
		for i := range 10 {
			addr := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
			ms.join(addr, "8001")
			honest = append(honest, swarm.Peer{At: netip.AddrPortFrom(addr, 8001)})
		}
		for range 20 {
			drawn := ms.members.Peers(honest[0].At)
			assert.Len(t, drawn, swarm.MaxPeers)
			assert.Subset(t, drawn, honest[1:])
		}
		for i := range 20 {
			ms.join(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), "8001")
		}
		fakes := 0
		for _, p := range ms.members.Peers(netip.AddrPort{}) {
			if p.At.Addr() == here {
				fakes++
			}
		}
		assert.LessOrEqual(t, fakes, 1)
	})
}

func TestOneHostHasSixtyFourPlaces(t *testing.T) {
	for name, address := range map[string]func(i int) string{
		"an address": func(int) string { return "192.0.2.1" },
		"an IPv6 /64": func(i int) string {
			return fmt.Sprintf("2001:db8:0:1:%x::1", i+1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			track(t, atOnce, func(t *testing.T, ms *tracker) {
				for i := range 64 {
					require.Equal(t, swarm.Pending, ms.join(netip.MustParseAddr(address(i)), fmt.Sprint(8000+i)))
				}
				assert.Equal(t, swarm.Refused, ms.join(netip.MustParseAddr(address(64)), "9000"))
				assert.Equal(t, swarm.Listed, ms.join(netip.MustParseAddr(address(3)), "8003"), "a member stays")
				other := netip.MustParseAddr("2001:db8:0:2::1")
				assert.Equal(t, swarm.Pending, ms.join(other, "8000"), "other hosts have theirs")
				assert.Equal(t, 65, ms.members.Count())
				time.Sleep(15 * time.Second)
				more := netip.MustParseAddr(address(64))
				assert.Equal(t, swarm.Pending, ms.join(more, "9000"), "the members have left")
			})
		})
	}
}

func TestOneHostClaimsSixtyFourAddresses(t *testing.T) {
	track(t, atOnce, func(t *testing.T, ms *tracker) {
		for i := range 64 {
			require.Equal(t, swarm.Pending, ms.join(here, number(i).String()+":8000"))
		}
		assert.Equal(t, swarm.Refused, ms.join(here, number(64).String()+":8000"))
		assert.Equal(t, swarm.Refused, ms.join(here, "8000"))
		assert.Equal(t, swarm.Pending, ms.join(netip.MustParseAddr("192.0.2.2"), number(64).String()+":8000"))
	}, "10.0.0.0/8")
}

func TestManyHostsClaimSixtyFourPortsOfOne(t *testing.T) {
	track(t, atOnce, func(t *testing.T, ms *tracker) {
		for i := range 64 {
			require.Equal(t, swarm.Pending, ms.join(number(i), fmt.Sprintf("192.0.2.1:%d", 8000+i)))
		}
		assert.Equal(t, swarm.Refused, ms.join(number(64), "192.0.2.1:9000"))
	}, "192.0.2.0/24")
}

func TestAFloodOfJoinsIsBoundedAndCheap(t *testing.T) {
	track(t, silent, func(t *testing.T, ms *tracker) {
		begun := time.Now()
		var pending, refused int
		allocs := testing.AllocsPerRun(1, func() {
			pending, refused = 0, 0
			for i := range 100_000 {
				if _, standing := ms.members.Join(number(i), "8000", swarm.Key{}); standing == swarm.Pending {
					pending++
				} else {
					refused++
				}
			}
		})
		assert.Equal(t, 4096, pending)
		assert.Equal(t, 100_000-4096, refused)
		assert.Less(t, allocs, 100_000.0, "a refused node costs no memory")
		assert.Zero(t, time.Since(begun), "no caller waits")
		assert.Equal(t, 1, strings.Count(ms.log.String(), "swarm is full"), "one line per flood")
		synctest.Wait()
		assert.Len(t, ms.probed(), 8)
		// There is room for a second flood when the nodes of the first do not join again.
		time.Sleep(15 * time.Second)
		assert.Zero(t, ms.members.Count())
		for i := range 100_000 {
			ms.members.Join(number(200_000+i), "8000", swarm.Key{})
		}
		synctest.Wait()
		assert.Equal(t, 8, ms.mostAtOnce(), "probes at the same time")
		time.Sleep(time.Minute)
		_, standing := ms.members.Join(here, "8000", swarm.Key{})
		assert.Equal(t, swarm.Pending, standing)
		assert.Less(t, len(ms.probed()), 8*(15+15)/2+8+1, "a node that has left is not probed")
	})
}

func TestPeersCostTheSameForManyMembers(t *testing.T) {
	track(t, atOnce, func(t *testing.T, ms *tracker) {
		for i := range 10_000 {
			ms.members.Join(number(i), "8000", swarm.Key{})
		}
		synctest.Wait()
		require.Equal(t, 4096, ms.members.Count())
		asker := netip.AddrPortFrom(number(1), 8000)
		allocs := testing.AllocsPerRun(100, func() { ms.members.Peers(asker) })
		assert.LessOrEqual(t, allocs, 8.0, "no more than the answer")
	})
}

func TestHostsTakeTurnsForProbes(t *testing.T) {
	nodes := func(at netip.AddrPort) (time.Duration, error) {
		if at.Addr() == here {
			return 0, nil
		}
		return time.Hour, nil
	}
	track(t, nodes, func(t *testing.T, ms *tracker) {
		for host := range 7 {
			for i := range 64 {
				ms.members.Join(number(host), fmt.Sprint(8000+i), swarm.Key{})
			}
		}
		assert.Equal(t, swarm.Pending, ms.join(here, "8000"))
		assert.Equal(t, []string{"192.0.2.1:8000"}, ms.peers(), "448 silent members of other hosts do not hold it up")
		assert.True(t, ms.inTurn())
		assert.Equal(t, 8, ms.mostAtOnce())
	})
}

func TestCloseEndsProbes(t *testing.T) {
	track(t, silent, func(t *testing.T, ms *tracker) {
		begun := time.Now()
		for i := range 100 {
			ms.members.Join(number(i), "8000", swarm.Key{})
		}
		synctest.Wait()
		ms.members.Close()
		assert.Zero(t, time.Since(begun))
		assert.Len(t, ms.probed(), 8)
		assert.Equal(t, swarm.Pending, ms.join(here, "8000"))
		assert.Len(t, ms.probed(), 8)
	})
}

func TestAMemberThatLeavesBeforeItsProbeIsNotListed(t *testing.T) {
	track(t, after(1900*time.Millisecond), func(t *testing.T, ms *tracker) {
		for i := range 64 { // one probe at a time, so the eighth goes on when all members leave
			ms.join(here, fmt.Sprint(8000+i))
		}
		time.Sleep(15100 * time.Millisecond)
		assert.Equal(t, swarm.Pending, ms.join(here, "9000"))
		assert.Len(t, ms.probed(), 8)
		time.Sleep(2 * time.Second)
		assert.Equal(t, []string{"192.0.2.1:9000"}, ms.peers())
		assert.True(t, ms.inTurn())
		time.Sleep(time.Minute)
		assert.Zero(t, ms.members.Count())
		assert.Zero(t, ms.members.Hosts())
	})
}

func TestNoSwarmHasNoMembers(t *testing.T) {
	var ms *swarm.Members
	assert.Equal(t, -1, ms.Count())
	ms.Close()
}

func TestMembersAllowManyGoroutines(t *testing.T) {
	track(t, dead, func(t *testing.T, ms *tracker) {
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				for i := range 500 {
					at, _ := ms.members.Join(number(g*250+i), "8000", swarm.Key{})
					ms.members.Peers(at)
				}
			})
		}
		all.Wait()
		synctest.Wait()
		assert.Zero(t, ms.members.Count())
	})
}

// A process that has begun anew has another key, by which it is tried before it is listed.
func TestAMemberWithAnotherKeyIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, _ := issuer(t)
		right := swarm.Key{2}
		members := swarm.NewMembers(swarm.MembersOptions{
			Issuer: one, Logger: slog.New(slog.DiscardHandler),
			Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
			Probe: func(_ context.Context, p swarm.Peer) error {
				time.Sleep(time.Millisecond)
				if p.Key != right {
					return errSilent
				}
				return nil
			},
		})
		defer members.Close()
		join := func(remote netip.Addr, claim string, key swarm.Key) swarm.Standing {
			members.Join(remote, claim, key)
			time.Sleep(time.Second)
			_, standing := members.Join(remote, claim, key)
			return standing
		}
		assert.Equal(t, swarm.Refused, join(here, "8001", swarm.Key{}), "a node of before TLS")
		assert.Equal(t, swarm.Unreachable, join(here, "8001", swarm.Key{1}))
		assert.Equal(t, swarm.Listed, join(here, "8001", right))
		want := []swarm.Peer{{At: netip.AddrPortFrom(here, 8001), Key: right}}
		assert.Equal(t, want, members.Peers(netip.AddrPort{}))
		other := netip.MustParseAddr("192.0.2.77")
		assert.Equal(t, swarm.Refused, join(other, here.String()+":8001", swarm.Key{3}), "of another host")
		assert.Equal(t, want, members.Peers(netip.AddrPort{}))
		assert.Equal(t, swarm.Unreachable, join(here, "8001", swarm.Key{1}))
		assert.Empty(t, members.Peers(netip.AddrPort{}))
		ticket, public := members.Ticket(right)
		assert.NotEmpty(t, ticket)
		assert.Equal(t, one.Public(), public)
	})
}
