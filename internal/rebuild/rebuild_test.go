package rebuild_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/delta"
	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/rebuild"
	"github.com/shardcast/shardcast/internal/shard"
)

const block = delta.BlockSize

// buffer is a version's place.
type buffer []byte

func (b buffer) WriteAt(p []byte, offset int64) (int, error) { return copy(b[offset:], p), nil }

// version returns a base, a version of four shards of three blocks each that resembles it, and the delta.
func version(t *testing.T) (m shard.Manifest, base, target, text []byte) {
	t.Helper()
	base = make([]byte, 12*block)
	_, err := rand.NewChaCha8([32]byte{1}).Read(base)
	require.NoError(t, err)
	target = bytes.Clone(base)
	for i := range 12 {
		target[i*block+7]++
	}
	m = shard.Manifest{Size: 12 * block, ShardSize: 3 * block, Digest: sha256.Sum256(target)}
	for part := range 4 {
		m.Shards = append(m.Shards, sha256.Sum256(target[3*part*block:3*(part+1)*block]))
	}
	var out bytes.Buffer
	whole := []delta.Copy{{Size: int64(len(base))}}
	_, err = delta.Encode(t.Context(), &out, stream(base), stream(target), whole)
	require.NoError(t, err)
	return m, base, target, out.Bytes()
}

func stream(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

func reader(text []byte) func(context.Context) io.Reader {
	return func(context.Context) io.Reader { return bytes.NewReader(text) }
}

func TestAVersionIsMadeButForTheBlocksThatAreThere(t *testing.T) {
	m, base, target, text := version(t)
	to := make(buffer, len(target))
	r := rebuild.New(m, []disk.Range{{From: 0, To: block}, {From: 3 * block, To: 4*block + 5}})
	require.NoError(t, r.Run(t.Context(), reader(text), stream(base), to))
	made, doubtful, err := r.Await(t.Context(), 1)
	require.NoError(t, err)
	assert.False(t, doubtful)
	assert.Equal(t, []disk.Range{{From: block, To: 3 * block}}, made)
	made, _, err = r.Await(t.Context(), 2)
	require.NoError(t, err)
	assert.Equal(t, []disk.Range{{From: block, To: 3 * block}}, made, "a block that is there in part is made")
	assert.Equal(t, make([]byte, block), []byte(to[:block]), "a block that is there is written")
	assert.Equal(t, target[4*block:], []byte(to[4*block:]))
}

func TestAfterThreeWrongShardsNothingThatWasMadeIsUsed(t *testing.T) {
	m, base, target, text := version(t)
	r := rebuild.New(m, nil)
	require.NoError(t, r.Run(t.Context(), reader(text), stream(base), make(buffer, len(target))))
	for number := range 3 {
		made, doubtful, err := r.Await(t.Context(), number+1)
		require.NoError(t, err)
		assert.False(t, doubtful)
		assert.NotEmpty(t, made)
		r.Wrong(number + 1)
	}
	made, doubtful, err := r.Await(t.Context(), 4)
	require.NoError(t, err)
	assert.True(t, doubtful)
	assert.Empty(t, made)
	shards, err := r.Disagreed()
	assert.Equal(t, 3, shards)
	require.ErrorIs(t, err, rebuild.ErrDisagrees)
}

func TestAWrongShardIsNotUsedAgain(t *testing.T) {
	m, base, target, text := version(t)
	r := rebuild.New(m, nil)
	require.NoError(t, r.Run(t.Context(), reader(text), stream(base), make(buffer, len(target))))
	for range 3 { // a swarm may open a shard again
		r.Wrong(2)
	}
	_, doubtful, err := r.Await(t.Context(), 2)
	require.NoError(t, err)
	assert.True(t, doubtful)
	made, doubtful, err := r.Await(t.Context(), 3)
	require.NoError(t, err)
	assert.False(t, doubtful, "one shard is counted thrice")
	assert.NotEmpty(t, made)
}

func TestThreeWrongShardsEndADeltaThatIsStillComing(t *testing.T) {
	m, base, target, text := version(t)
	r := rebuild.New(m, nil)
	coming, more := io.Pipe()
	go func() { _, _ = more.Write(text[:len(text)-1]) }()
	ended := make(chan error)
	in := func(ctx context.Context) io.Reader {
		context.AfterFunc(ctx, func() { _ = coming.CloseWithError(context.Cause(ctx)) })
		return coming
	}
	go func() { ended <- r.Run(t.Context(), in, stream(base), make(buffer, len(target))) }()
	for number := range 3 {
		_, _, err := r.Await(t.Context(), number+1)
		require.NoError(t, err)
		r.Wrong(number + 1)
	}
	require.ErrorIs(t, <-ended, rebuild.ErrDisagrees)
}

func TestADeltaForOtherSizesIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	m, base, target, text := version(t)
	to := make(buffer, len(target))
	r := rebuild.New(m, nil)
	require.ErrorContains(t, r.Run(t.Context(), reader(text), stream(base[1:]), to), "it makes")
	assert.Equal(t, make([]byte, len(target)), []byte(to))
	made, doubtful, err := r.Await(t.Context(), 4)
	require.NoError(t, err)
	assert.Empty(t, made)
	assert.False(t, doubtful)
}

func TestAWaitEndsWithItsContextAndWithTheMaking(t *testing.T) {
	m, _, _, _ := version(t)
	r := rebuild.New(m, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, _, err := r.Await(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	r.Abandon()
	_, _, err = r.Await(t.Context(), 1)
	require.NoError(t, err)
}
