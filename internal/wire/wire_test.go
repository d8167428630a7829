package wire_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/wire"
)

func TestTimeoutsOfBothEndsFit(t *testing.T) {
	assert.Less(t, wire.LongestWait, wire.MaxWait)
	assert.Less(t, wire.ShardWait, wire.DefaultSilence)
	assert.Less(t, wire.MaxShardWait, wire.DefaultSilence)
	assert.Less(t, wire.ClientIdle, wire.ServerIdle)
	assert.Less(t, wire.BusyRetry, wire.MaxRetryAfter)
	assert.Less(t, wire.SlotWait, wire.SlotAnswer)
	assert.Less(t, wire.PeerWait, wire.PeerSilence)
	assert.Less(t, wire.HavePause, wire.HaveEvery)
	assert.Less(t, wire.HavePauseShard, wire.HaveEveryShard)
	assert.Less(t, wire.HaveAlive, wire.HaveSilence)
	assert.Less(t, wire.JoinEvery, wire.MemberFor)
}

func TestIsPrivate(t *testing.T) {
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "172.31.255.255": true, "192.168.0.1": true, "100.64.0.1": true, "100.127.255.255": true,
		"fd00::1": true, "fec0::1": true,
		"172.32.0.1": false, "100.128.0.1": false, "192.0.2.1": false, "127.0.0.1": false, "169.254.1.1": false,
		"::1": false, "fe80::1": false, "2001:db8::1": false,
	} {
		assert.Equal(t, want, wire.IsPrivate(netip.MustParseAddr(addr)), addr)
	}
}

func TestIsMetadata(t *testing.T) {
	for addr, want := range map[string]bool{
		"169.254.169.254": true, "::ffff:169.254.169.254": true, "fe80::1%eth0": true, "168.63.129.16": true,
		"192.0.0.192": true, "100.100.100.200": true, "fd00:ec2::254": true, "::ffff:100.100.100.200": true,
		"168.63.129.17": false, "100.100.100.201": false, "fd00:ec2::253": false, "10.0.0.1": false, "127.0.0.1": false,
	} {
		assert.Equal(t, want, wire.IsMetadata(netip.MustParseAddr(addr)), addr)
	}
}
