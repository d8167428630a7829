package swarm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A State is how much a node has of a shard.
type State byte

// The states, by the signs that stand for them.
const (
	Missing  State = '-' // or not to be had here now
	Arriving State = '~' // and passed on to who asks, for it comes from one that holds all of it
	Held     State = '+' // and verified
	Sent     State = '*' // held, and sent to somebody
)

// The ways in which a node of a swarm asks for a shard. A client that asks in no such way is
// no node of a swarm.
const (
	AsPeer     = "peer"     // for one that is held, or comes from a node that holds all of it
	AsUpstream = "upstream" // for any
	AsFresh    = "fresh"    // for one that no node was sent yet
	AsSpare    = "spare"    // for any, unless others ask for what no node was sent yet
)

// ErrHave means that a line says nothing that can be understood.
var ErrHave = errors.New("not a line of what a node has")

// A Change says that shards From to To, from 1 on, are in a state now.
type Change struct {
	State    State
	From, To int
}

// MaxLine returns how long a line about so many shards is at most, in bytes, its end
// included.
func MaxLine(shards int) int { return shards*(len(strconv.Itoa(shards))+2) + 2 }

// AppendLine appends the line that tells how now differs from before, of the same length
// or empty, which is for nothing being there; a state's index is its shard's number less
// one. A line that tells nothing is empty but for its end.
func AppendLine(line []byte, before, now []State) []byte {
	was := func(i int) State {
		if i < len(before) {
			return before[i]
		}
		return Missing
	}
	for i := 0; i < len(now); {
		if now[i] == was(i) {
			i++
			continue
		}
		from := i
		for i < len(now) && now[i] == now[from] && now[i] != was(i) {
			i++
		}
		if line = append(line, byte(now[from])); i-from == 1 {
			line = strconv.AppendInt(line, int64(i), 10)
		} else {
			line = fmt.Appendf(line, "%d-%d", from+1, i)
		}
		line = append(line, ' ')
	}
	if len(line) > 0 && line[len(line)-1] == ' ' {
		line = line[:len(line)-1]
	}
	return append(line, '\n')
}

// ParseLine reads a line, without its end, about a version of so many shards, of which
// each is told of once at most, in ascending order: so there are no more changes, and all
// of them are of no more shards, than there are. Errors match [ErrHave].
func ParseLine(line string, shards int) ([]Change, error) {
	var changes []Change
	last := 0
	for field := range strings.FieldsSeq(line) {
		c := Change{State: State(field[0])}
		switch c.State {
		case Missing, Arriving, Held, Sent:
		default:
			return nil, fmt.Errorf("%w: %.20q", ErrHave, field)
		}
		from, to, isRange := strings.Cut(field[1:], "-")
		if !isRange {
			to = from
		}
		var err error
		if c.From, err = parseNumber(from); err == nil {
			c.To, err = parseNumber(to)
		}
		if err != nil || c.From <= last || c.From > c.To || c.To > shards {
			return nil, fmt.Errorf("%w: %.20q, of %d shards", ErrHave, field, shards)
		}
		last = c.To
		changes = append(changes, c)
	}
	return changes, nil
}

// parseNumber reads a number from 1 on, in the one way in which it is written.
func parseNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || strconv.Itoa(n) != s {
		return 0, ErrHave
	}
	return n, nil
}
