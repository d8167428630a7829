package wire_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/wire"
)

func TestAServerGoesByAddressesLocalNamesAndItsOwn(t *testing.T) {
	names := wire.Names{
		Allowed: []string{"Weights.Example.com"},
		Machine: func() []string { return []string{"gpu7", "gpu7.example.com."} },
	}
	for host, want := range map[string]bool{
		"": true, "127.0.0.1": true, "10.0.0.1:8000": true, "[::1]:8000": true, "::1": true,
		"[fe80::1%25eth0]:80": true,
		"localhost":           true, "LOCALHOST:8000": true, "localhost.:8000": true, "a.localhost": true,
		"origin:8000": true, "origin.shardcast.svc:8000": true, "origin.shardcast.svc.cluster.local": true,
		"nas.lan": true, "ip-10-0-0-1.ec2.internal": true, "nas.home.arpa.": true,
		"weights.example.com:8000": true, "WEIGHTS.example.com.": true, "gpu7.example.com:8000": true,
		"evil.example": false, "evil.example:8000": false, "gpu7.evil.example": false, "localhost.evil.example": false,
		"127.0.0.1.evil.example:8000": false, "weights.example.com.evil.example": false, "xweights.example.com": false,
		"evillocal.example": false, "notlan.evil": false, "127.1.evil:80": false, "0x7f.1": false,
	} {
		assert.Equal(t, want, names.Have(host), "%q", host)
	}
	assert.False(t, wire.Names{}.Have("weights.example.com"))
	assert.True(t, wire.Names{Allowed: []string{"*"}}.Have("evil.example"))
}
