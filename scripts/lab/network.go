package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/shardcast/shardcast/scripts/internal/process"
)

const (
	// link is the node's end of its link; no interface outside has this name.
	link = "sclab0"

	// latency bounds the bytes that a link keeps back before it drops, in time.
	latency = 50 * time.Millisecond

	// leastBurst in bytes has room for the largest packet that the system hands over at
	// once. With less room the system would cut it up, at the cost of processor time.
	leastBurst = 80_000

	// burstTime is the burst of fast links: the bytes of two ticks of a slow clock.
	burstTime = 2 * time.Millisecond

	// tidy is the time for removing a network.
	tidy = time.Minute
)

// A network is a namespace for each node of a plan, and one with the bridge that
// joins them.
type network struct {
	prefix string
	path   path
	made   []string // the namespaces
	cables []*cable
}

// network builds one for a plan, and removes all of it when that fails.
func (l *lab) network(ctx context.Context, p plan) (*network, error) {
	n := &network{prefix: l.prefix, path: l.path}
	err := n.build(ctx, p, l.congestion)
	if err != nil {
		return nil, errors.Join(err, n.close(ctx))
	}
	return n, nil
}

// namespace is that of a node.
func (n *network) namespace(node int) string { return n.prefix + "-" + strconv.Itoa(node) }

// hub is the namespace of the bridge.
func (n *network) hub() string { return n.prefix + "-hub" }

// address is that of a node, from a private range that namespaces alone use.
func address(node int) string { return fmt.Sprintf("10.177.%d.%d", node/250, node%250+1) }

// build makes all namespaces and links.
func (n *network) build(ctx context.Context, p plan, congestion string) error {
	if err := n.add(ctx, n.hub()); err != nil {
		return err
	}
	if err := ip(ctx, "-n", n.hub(), "link", "add", "hub", "up", "type", "bridge"); err != nil {
		return err
	}
	for i, s := range p {
		if err := n.add(ctx, n.namespace(i)); err != nil {
			return err
		}
		if err := n.join(ctx, i, s, congestion); err != nil {
			return err
		}
	}
	if n.path.isLong() {
		return n.introduce(ctx, len(p))
	}
	return nil
}

// hardware is the address of a node's device.
func hardware(node int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", node>>8, node&0xff) }

// introduce tells each node the devices of all others. To ask for one (ARP, RFC 826) would take a round trip, which
// no long way outside has: there the next router is near.
func (n *network) introduce(ctx context.Context, nodes int) error {
	for i := range nodes {
		for j := range nodes {
			if i == j {
				continue
			}
			err := ip(ctx, "-n", n.namespace(i), "neighbour", "add", address(j), "lladdr", hardware(j),
				"dev", link, "nud", "permanent")
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// add makes a namespace.
func (n *network) add(ctx context.Context, name string) error {
	n.made = append(n.made, name)
	return ip(ctx, "netns", "add", name)
}

// join joins a node to the bridge by a shaped link. The node's end shapes the packets
// from it, and the bridge's those to it. A link that delays or loses packets is a [cable].
func (n *network) join(ctx context.Context, node int, s spec, congestion string) error {
	ns, port := n.namespace(node), "port"+strconv.Itoa(node)
	var commands [][]string
	if n.path.isLong() {
		if err := n.cable(node, port, s); err != nil {
			return err
		}
	} else {
		commands = [][]string{
			{"ip", "-n", n.hub(), "link", "add", port, "type", "veth", "peer", "name", link, "netns", ns},
			append([]string{"tc", "-n", ns, "qdisc", "add", "dev", link}, shaper(s.up)...),
			append([]string{"tc", "-n", n.hub(), "qdisc", "add", "dev", port}, shaper(s.down)...),
		}
	}
	commands = append(commands, [][]string{
		{"ip", "-n", n.hub(), "link", "set", port, "master", "hub", "up"},
		{"ip", "-n", ns, "link", "set", "lo", "up"},
		{"ip", "-n", ns, "link", "set", link, "address", hardware(node), "up"},
		{"ip", "-n", ns, "address", "add", address(node) + "/16", "dev", link},
	}...)
	if congestion != "" {
		// By the route, because a namespace may choose for itself only from the algorithms
		// that are allowed to every user of the machine.
		commands = append(commands, []string{
			"ip", "-n", ns, "route", "change", "10.177.0.0/16", "dev", link,
			"src", address(node), "congctl", congestion,
		})
	}
	for _, c := range commands {
		if err := command(ctx, c[0], c[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// cable joins a node to the bridge by one.
func (n *network) cable(node int, port string, s spec) error {
	near, err := tap(n.namespace(node), link)
	if err != nil {
		return err
	}
	far, err := tap(n.hub(), port)
	if err != nil {
		return errors.Join(err, near.Close())
	}
	n.cables = append(n.cables, newCable(near, far, s, n.path, uint64(node)))
	return nil
}

// shaper are the arguments of tc for a rate.
func shaper(r rate) []string {
	return []string{
		"root", "tbf", "rate", strconv.FormatInt(int64(r), 10) + "bit",
		"burst", strconv.FormatInt(burst(r), 10), "latency", latency.String(),
	}
}

// burst in bytes is the most that may pass at once.
func burst(r rate) int64 {
	return max(leastBurst, int64(r.bytesPerSecond()*burstTime.Seconds()))
}

// congestion is the congestion control of a node's connections.
func (n *network) congestion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "ip", "-n", n.namespace(0), "route", "show", "dev", link).Output()
	if err != nil {
		return "", err
	}
	if _, rest, ok := strings.Cut(string(out), "congctl "); ok {
		return strings.Fields(rest)[0], nil
	}
	out, err = exec.CommandContext(ctx, "ip", "netns", "exec", n.namespace(0),
		"cat", "/proc/sys/net/ipv4/tcp_congestion_control").Output()
	return strings.TrimSpace(string(out)), err
}

// start starts a command on a node.
func (n *network) start(ctx context.Context, node int, name string, args ...string) (*process.Process, error) {
	return process.Start(ctx, "ip", append([]string{"netns", "exec", n.namespace(node), name}, args...)...)
}

// kill kills all that runs in a namespace.
func (n *network) kill(ctx context.Context, namespace string) error {
	out, err := exec.CommandContext(ctx, "ip", "netns", "pids", namespace).Output()
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(string(out)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill() // it may have ended
		}
	}
	return nil
}

// close kills all programs in the network and removes it, also when ctx has ended.
func (n *network) close(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidy)
	defer cancel()
	for _, name := range n.made {
		if _, missing := os.Stat("/run/netns/" + name); missing != nil {
			continue // making it failed
		}
		// A second ctrl-C also reaches ip, and must not leave a part of the network.
		for range 3 {
			last := errors.Join(n.kill(ctx, name), ip(ctx, "netns", "delete", name))
			if _, missing := os.Stat("/run/netns/" + name); missing != nil {
				break
			}
			err = errors.Join(err, last)
		}
	}
	for _, w := range n.cables {
		err = errors.Join(err, w.close())
	}
	return err
}

// counters are the bytes that the link of a node has received and sent. They can be read
// at no cost while the node's first process runs.
func counters(p *process.Process) (received, sent int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", p.ID()))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[0] != link+":" {
			continue
		}
		if received, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
			return 0, 0, err
		}
		sent, err = strconv.ParseInt(fields[9], 10, 64)
		return received, sent, err
	}
	return 0, 0, nil // it is not in the namespace yet
}

// ip runs ip.
func ip(ctx context.Context, args ...string) error { return command(ctx, "ip", args...) }

// command runs a command; the error has its output.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
