package verify

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/shardcast/shardcast/internal/shard"
)

// order checks shards in their order, against their digests and the file's at the same
// time. The caller that has brought a shard does it, if that or one that follows is next,
// and no other caller is at it. Of shards that were checked one by one already only the
// file's digest is computed.
type order struct {
	opts Options
	done chan struct{} // closed when all shards are right
	sums *shard.Sums   // of all shards before next; for the caller that is busy

	mu      sync.Mutex     // guards what follows
	arrived map[int]*Check // whose turn is yet to come
	next    int            // number of the first shard that is not right yet
	busy    bool           // a caller checks it

	proven  map[string]bool          // servers, by a right shard
	proving map[string]chan struct{} // closed when that has been tried
}

func newOrder(opts Options) *order {
	o := &order{
		opts: opts, done: make(chan struct{}), sums: shard.NewSums(opts.Manifest.ShardSize),
		arrived: make(map[int]*Check), next: 1, proven: make(map[string]bool), proving: make(map[string]chan struct{}),
	}
	if len(opts.Manifest.Shards) == 0 {
		close(o.done)
	}
	return o
}

// came takes c, all of which has come, and checks the next shards as far as they are there.
func (o *order) came(ctx context.Context, c *Check, buf []byte, yield func(Verdict, error) bool) {
	if !c.each {
		if verdict, err := o.prove(ctx, c, buf); !verdict.Right || err != nil {
			yield(verdict, err)
			return
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.arrived[c.Shard.Number] = c
	for !o.busy && o.arrived[o.next] != nil {
		next := o.arrived[o.next]
		delete(o.arrived, o.next)
		o.busy = true
		o.mu.Unlock()
		verdict, err := o.check(next, buf)
		goOn := next.each && err == nil || yield(verdict, err) // one by one, it has been yielded
		o.mu.Lock()
		o.busy = false
		if !goOn || err != nil || !verdict.Right {
			return
		}
		if o.next++; o.next > len(o.opts.Manifest.Shards) {
			close(o.done)
		}
	}
}

// waiting returns a shard whose turn is yet to come, that was not checked, and is to be now: any if
// each is set, and see [Verifier.Waiting] for the others.
func (o *order) waiting(each bool, early func(number int) bool) *Check {
	for _, number := range o.candidates(each) {
		if !each && !early(number) {
			continue
		}
		o.mu.Lock()
		c := o.arrived[number]
		delete(o.arrived, number)
		o.mu.Unlock()
		if c != nil { // its turn has not come meanwhile
			c.each = true
			return c
		}
	}
	return nil
}

// candidates returns the numbers of the shards that were not checked. Those whose turn comes before
// any other shard does are not among them, unless each is set.
func (o *order) candidates(each bool) (numbers []int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	missing := o.next // the first that has not come
	for o.arrived[missing] != nil || missing == o.next && o.busy {
		missing++
	}
	for number, c := range o.arrived {
		if !c.each && (each || number > missing) {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// prove checks c by itself if nothing right has come yet of a server that sent it: a server
// that sends nothing right is found out before it is asked for more. A caller that has
// something of a server that is being proven waits for that.
func (o *order) prove(ctx context.Context, c *Check, buf []byte) (Verdict, error) {
	strangers, over, err := o.strangers(ctx, c)
	if len(strangers) == 0 || err != nil {
		return Verdict{Check: c, Right: true}, err
	}
	verdict, err := c.verdict(buf)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range strangers {
		delete(o.proving, s)
		o.proven[s] = verdict.Right && err == nil
	}
	close(over)
	return verdict, err
}

// strangers returns the senders of c of which nothing right has come yet, and what the
// caller closes when it has tried to prove them.
func (o *order) strangers(ctx context.Context, c *Check) ([]string, chan struct{}, error) {
	for {
		o.mu.Lock()
		strangers := slices.DeleteFunc(c.Senders(), func(s string) bool { return o.proven[s] })
		i := slices.IndexFunc(strangers, func(s string) bool { return o.proving[s] != nil })
		if i < 0 {
			over := make(chan struct{})
			for _, s := range strangers {
				o.proving[s] = over
			}
			o.mu.Unlock()
			return strangers, over, nil
		}
		over := o.proving[strangers[i]]
		o.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// check checks the shard that follows those that the sums are of.
func (o *order) check(c *Check, buf []byte) (Verdict, error) {
	if c.each { // it is right, and its place closed
		place, err := o.opts.Open(c.Shard)
		if err == nil {
			err = errors.Join(readAll(o.sums, place, c.Shard.Size, buf), place.Close())
		}
		o.sums.EndShard()
		return Verdict{Check: c, Right: err == nil}, err
	}
	before := o.sums.Clone()
	if err := readAll(o.sums, c.at, c.Shard.Size, buf); err != nil {
		return Verdict{}, err
	}
	verdict := c.judge(o.sums.EndShard())
	if !verdict.Right {
		o.sums = before
	}
	return verdict, nil
}

// whole waits for all shards, and returns the file's digest.
func (o *order) whole(ctx context.Context) (shard.Digest, error) {
	select {
	case <-o.done:
		return o.sums.Whole(), nil
	case <-ctx.Done():
		return shard.Digest{}, context.Cause(ctx)
	}
}
