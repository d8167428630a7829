package offers_test

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/offers"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/roster"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/trust"
)

// press signs releases, each newer than the last, that expire in an hour.
type press struct {
	key release.PrivateKey
	seq uint64
}

// sign returns a release of lines.
func (p *press) sign(t *testing.T, lines ...release.Entry) string {
	t.Helper()
	p.seq++
	now := time.Now().UTC().Truncate(time.Second)
	signed, err := release.Release{
		Feed: "test", Epoch: 1, Seq: p.seq, Issued: now, Expires: now.Add(time.Hour), Entries: lines,
	}.Sign(p.key)
	require.NoError(t, err)
	return string(signed.Bytes())
}

// newPress returns a press, and hosts whose releases of it count.
func newPress(t *testing.T, hosts ...string) (*press, *sites) {
	t.Helper()
	key, err := release.GenerateKey()
	require.NoError(t, err)
	keeper, err := trust.Open(trust.Options{Keys: []release.PublicKey{key.Public()}, Feed: "test"})
	require.NoError(t, err)
	return &press{key: key}, newSitesBy(t, keeper, hosts...)
}

// publish has hosts list v1 as a file of other bytes and with the manifest of data, and returns
// its line.
func (s *sites) publish(t *testing.T, hosts ...string) release.Entry {
	t.Helper()
	var line release.Entry
	for _, host := range hosts {
		s.put(host, "/distribution.txt", listed)
		m := s.manifest(t, host, data, 4, 0)
		line = release.Entry{
			Version: 1, Digest: m.Digest, Size: m.Size, Manifest: sha256.Sum256(s.files[host]["/v1/manifest.json"]),
		}
	}
	return line
}

func TestWhatThePublisherListsExistsWhateverServersSayOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPress(t, "a", "b")
		line := s.publish(t, "a")
		s.put("b", "/distribution.txt", listed+"v7: "+digest+"\n")
		require.NoError(t, s.Refresh(t.Context(), offers.All))
		assert.Empty(t, s.Offers.Offers())
		assert.False(t, s.Complete())
		require.ErrorIs(t, s.Missing(1), trust.ErrNotTrusted)
		require.ErrorIs(t, s.Count(offers.Taker{}).Err, trust.ErrNotTrusted)

		s.put("b", releasePath, p.sign(t, line, release.Entry{Version: 2}, release.Entry{Version: 3, Withdrawn: true}))
		time.Sleep(time.Minute)
		s.ask(t)
		e := distfile.Entry{Version: 1, Digest: line.Digest}
		assert.Equal(t, []distfile.Entry{e}, s.Offers.Offers())
		count := s.Count(offers.Taker{})
		require.NoError(t, count.Err)
		assert.Equal(t, []distfile.Entry{e}, count.Entries)
		assert.Equal(t, []distfile.Entry{e, {Version: 2}}, count.Listed)
		assert.EqualValues(t, 1, count.Epoch)
		assert.EqualValues(t, 2, count.Beyond.Entry.Version, "listed, and no server has it")
		assert.False(t, count.Beyond.Settled, "it may be on its way")
		assert.True(t, s.Complete())
		assert.True(t, s.Offered(e))
		assert.True(t, s.Offered(distfile.Entry{Version: 2}), "it exists, though nobody has it")
		assert.False(t, s.Offered(distfile.Entry{Version: 1, Digest: shard.Digest{1}}))
		assert.True(t, s.Withdrawn(t.Context(), 3))
		assert.False(t, s.Withdrawn(t.Context(), 1))
		require.ErrorIs(t, s.Missing(7), trust.ErrNotTrusted)
		require.ErrorContains(t, s.Missing(7), "v7 is listed by http://b, and not by the publisher")
		require.ErrorIs(t, s.Missing(8), offers.ErrNoVersion)
		unsigned := s.Unsigned()
		require.Len(t, unsigned, 1)
		assert.EqualValues(t, 7, unsigned[0].Version)
		time.Sleep(time.Minute)
		assert.True(t, s.Count(offers.Taker{}).Beyond.Settled, "followers are told")
	})
}

func TestAReleaseThatExpiresStillSaysWhatExisted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPress(t, "a")
		line := s.publish(t, "a")
		s.put("a", releasePath, p.sign(t, line))
		s.ask(t)
		until := s.Count(offers.Taker{}).Until
		assert.LessOrEqual(t, time.Until(until), time.Minute)
		time.Sleep(time.Hour)
		count := s.Count(offers.Taker{})
		require.ErrorIs(t, count.Err, trust.ErrExpired)
		assert.Len(t, count.Entries, 1)
		assert.Len(t, s.Offers.Offers(), 1)
	})
}

func TestFollowersLearnWhenTheReleaseExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPress(t, "a")
		s.put("a", releasePath, p.sign(t, s.publish(t, "a")))
		expired := make(chan struct{})
		go s.Follow(t.Context(), 24*time.Hour, func() {
			if s.Count(offers.Taker{}).Err != nil && s.Complete() {
				close(expired)
			}
		})
		began := time.Now()
		<-expired
		assert.LessOrEqual(t, time.Since(began), time.Hour+time.Second)
		s.Close()
	})
}

func TestThePublishersManifestComesFromAnyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPress(t, "wrong", "plain", "right")
		line := s.publish(t, "right")
		s.put("right", "/distribution.txt", "v9: "+digest+"\n") // it does not list v1
		s.put("plain", "/distribution.txt", listed)
		s.put("wrong", "/distribution.txt", listed)
		s.manifest(t, "wrong", data, 4, 1) // with other digests of shards
		s.put("plain", releasePath, p.sign(t, line))
		s.ask(t)
		e := s.Offers.Offers()[0]
		c := s.Choose(e)
		m, err := c.Next(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "http://right", m.Source.Name)
		refused := c.Distrusted(s.servers[0])
		require.ErrorIs(t, refused, trust.ErrNotTrusted)
		require.ErrorContains(t, refused, "http://wrong")
		_, err = s.Choose(e).Next(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, strings.Count(s.log.String(), "level=WARN msg=\"upstream not asked again\""), "said once")
		assert.True(t, s.Want(e).May(s.servers[1]), "it has shards")
		assert.False(t, s.Want(e).May(s.servers[2]), "it does not list the version")
		require.NoError(t, s.Agree(t.Context(), m), "no other has a vote")

		bad := roster.Wrong(shard.ErrDigest)
		c.Distrust(m, bad)
		_, err = c.Next(t.Context())
		require.ErrorIs(t, err, shard.ErrIntegrity, "there is no other manifest")
	})
}

func TestNoServerHasThePublishersManifest(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(s *sites)
		want  error
		text  string
	}{
		"it is missing": {
			func(s *sites) { s.put("a", "/v1/manifest.json", "") }, fs.ErrNotExist, "no server has the manifest",
		},
		"it was written anew": {func(s *sites) {
			text := string(s.files["a"]["/v1/manifest.json"])
			s.put("a", "/v1/manifest.json", strings.ReplaceAll(text, "\n", ""))
		}, trust.ErrNotTrusted, "http://a"},
	} {
		bubble(t, name, func(t *testing.T) {
			p, s := newPress(t, "a")
			s.put("a", releasePath, p.sign(t, s.publish(t, "a")))
			tc.spoil(s)
			s.ask(t)
			_, err := s.Choose(s.Offers.Offers()[0]).Next(t.Context())
			require.ErrorContains(t, err, tc.text)
			require.ErrorIs(t, err, tc.want)
			require.NotErrorIs(t, err, offers.ErrPlain)
		})
	}
}

func TestAPublisherThatContradictsItselfIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPress(t, "a")
		line := s.publish(t, "a")
		line.Size++
		s.put("a", releasePath, p.sign(t, line))
		s.ask(t)
		_, err := s.Choose(s.Offers.Offers()[0]).Next(t.Context())
		require.ErrorIs(t, err, trust.ErrNotTrusted)
		require.ErrorContains(t, err, "the publisher contradicts itself")
		_, err = s.Manifest(t.Context(), s.Offers.Offers()[0])
		require.ErrorContains(t, err, "the publisher contradicts itself")
	})
}

func TestAFetchEndsWhenThePublisherTakesTheVersionBack(t *testing.T) {
	for name, tc := range map[string]struct {
		after func(release.Entry) []release.Entry
		ends  bool
	}{
		"withdrawn": {func(e release.Entry) []release.Entry {
			return []release.Entry{{Version: e.Version, Withdrawn: true}}
		}, true},
		"another file": {func(e release.Entry) []release.Entry {
			return []release.Entry{{Version: e.Version, Digest: shard.Digest{1}}}
		}, true},
		"retired": {func(release.Entry) []release.Entry { return nil }, false},
	} {
		bubble(t, name, func(t *testing.T) {
			p, s := newPress(t, "a")
			line := s.publish(t, "a")
			s.put("a", releasePath, p.sign(t, line))
			s.ask(t)
			e := s.Offers.Offers()[0]
			ctx, ended := s.While(t.Context(), e)
			defer ended()
			s.put("a", releasePath, p.sign(t, tc.after(line)...))
			s.ask(t)
			synctest.Wait()
			if !tc.ends {
				require.NoError(t, ctx.Err())
				assert.True(t, s.Want(e).May(s.servers[0]))
				return
			}
			require.Error(t, ctx.Err())
			require.ErrorIs(t, context.Cause(ctx), offers.ErrNoVersion)
			assert.False(t, s.Want(e).May(s.servers[0]))
		})
	}
}

func TestARefusedReleaseIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPress(t, "a", "b")
		line := s.publish(t, "a", "b")
		older := p.sign(t, line)
		s.put("a", releasePath, p.sign(t, line))
		s.put("b", releasePath, "forged")
		s.ask(t)
		state, err := s.Stands(s.servers[1])
		assert.Equal(t, "refused", state)
		require.Error(t, err)
		s.put("b", releasePath, older)
		s.ask(t)
		state, err = s.Stands(s.servers[1])
		assert.Equal(t, "older", state)
		require.NoError(t, err)
		text, known := s.Release()
		assert.True(t, known)
		assert.Equal(t, s.files["a"][releasePath], text, "the newest is passed on")
	})
}
