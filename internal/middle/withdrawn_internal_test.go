package middle

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/shard"
)

func TestReadersShareOneQuestionForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q questions
		var asked atomic.Int32
		ask := func(context.Context) bool {
			asked.Add(1)
			time.Sleep(time.Second) // of the bubble
			return true
		}
		var readers sync.WaitGroup
		for range 5 {
			readers.Go(func() { assert.True(t, q.answer(t.Context(), 7, ask)) })
		}
		readers.Wait()
		assert.EqualValues(t, 1, asked.Load())
		time.Sleep(askedFor)
		assert.True(t, q.answer(t.Context(), 7, ask))
		assert.EqualValues(t, 2, asked.Load(), "an answer does not stand for ever")
	})
}

func TestReadersCannotHaveUpstreamsAskedForAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q questions
		asked := 0
		for v := shard.Version(1); v <= 1000; v++ {
			q.answer(t.Context(), v, func(context.Context) bool { asked++; return true })
		}
		assert.Equal(t, mostAsked, asked)
		assert.Len(t, q.asked, mostAsked)
	})
}

func TestAReaderThatLeavesDoesNotEndAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q questions
		leaving, leave := context.WithCancel(t.Context())
		hang := func(ctx context.Context) bool {
			<-ctx.Done()
			return true
		}
		go q.answer(leaving, 7, hang)
		synctest.Wait()
		leave()
		began := time.Now()
		assert.True(t, q.answer(t.Context(), 7, hang))
		assert.Equal(t, askPatience, time.Since(began))
	})
}

func TestVersionsThatDoNotCountAreAskedAbout(t *testing.T) {
	all := func(distfile.Entry) bool { return true } // an upstream that is cut off lists them
	v := view{offers: entries(1), held: entries(1, 2), arriving: entries(3), listed: entries(3), offered: all}
	assert.Equal(t, numbers(3, 2), v.vanished())
	v = view{offers: []distfile.Entry{another(1)}, held: entries(1)}
	assert.Equal(t, numbers(1), listing(v).vanished(), "another file has its number")
	assert.Empty(t, listing(view{offers: entries(1, 2), held: entries(1, 2)}).vanished())
}
