package swarm_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/swarm"
)

// issuer returns an issuer, and its public key.
func issuer(t testing.TB) (*swarm.Issuer, swarm.Key) {
	t.Helper()
	i, err := swarm.NewIssuer()
	require.NoError(t, err)
	public, ok := swarm.ParseKey(i.Public())
	require.True(t, ok)
	return i, public
}

func TestATicketIsForOneNodeAndOfOneUpstreamAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, public := issuer(t)
		other, _ := issuer(t)
		upstreams := time.Now().Add(-1000 * time.Hour) // whose clock is wrong, which does not matter
		tickets := swarm.NewTickets()
		tickets.Trust("https://a", public, upstreams)
		node := swarm.Key{1}
		ticket := one.Issue(node, upstreams)
		require.NoError(t, tickets.Check(ticket, node))
		require.ErrorIs(t, tickets.Check(ticket, swarm.Key{2}), swarm.ErrTicket, "that of another node")
		require.ErrorIs(t, tickets.Check(other.Issue(node, upstreams), node), swarm.ErrTicket, "of another upstream")
		number, signature, _ := strings.Cut(ticket, ".")
		for _, wrong := range []string{
			"", ".", number, number + ".", "0" + ticket, "-" + ticket, "9" + ticket, ticket + "A", ticket + ".",
			number + "." + signature[:85], number + "." + strings.ToUpper(signature),
		} {
			require.ErrorIs(t, tickets.Check(wrong, node), swarm.ErrTicket, "%q", wrong)
		}
		time.Sleep(4 * time.Minute)
		tickets.Trust("https://a", public, upstreams.Add(4*time.Minute))
		require.NoError(t, tickets.Check(ticket, node))
		time.Sleep(2 * time.Minute)
		require.ErrorIs(t, tickets.Check(ticket, node), swarm.ErrTicket, "it has expired")
		fresh := one.Issue(node, upstreams.Add(6*time.Minute))
		require.NoError(t, tickets.Check(fresh, node))
		time.Sleep(3 * time.Minute)
		require.ErrorIs(t, tickets.Check(fresh, node), swarm.ErrTicket, "the upstream is gone")
	})
}

// Servers at one address, and one that is started anew, have a key each.
func TestTheLastKeysOfAnUpstreamCount(t *testing.T) {
	tickets := swarm.NewTickets()
	now := time.Now()
	var issuers []*swarm.Issuer
	for range 5 {
		one, public := issuer(t)
		issuers = append(issuers, one)
		tickets.Trust("https://a", public, now)
	}
	require.ErrorIs(t, tickets.Check(issuers[0].Issue(swarm.Key{1}, now), swarm.Key{1}), swarm.ErrTicket)
	for _, one := range issuers[1:] {
		require.NoError(t, tickets.Check(one.Issue(swarm.Key{1}, now), swarm.Key{1}))
	}
}

func FuzzTicket(f *testing.F) {
	one, public := issuer(f)
	tickets := swarm.NewTickets()
	now := time.Now()
	tickets.Trust("https://a", public, now)
	node := swarm.Key{1}
	good := one.Issue(node, now)
	for _, text := range []string{"", ".", "1.", good, good + "A", "0" + good, strings.Repeat("9", 200)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := tickets.Check(text, node)
		if text == good {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, swarm.ErrTicket)
	})
}
