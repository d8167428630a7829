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
	Missing  State = '-' // or not available now
	Arriving State = '~' // and passed on, since its sender holds all of it
	Held     State = '+' // and verified
	Sent     State = '*' // held, and sent to a node
)

// The ways in which a node of a swarm asks for a shard. Other clients ask in none of them.
const (
	AsPeer     = "peer"     // for a shard that is held, or whose sender holds all of it
	AsUpstream = "upstream" // for any shard
	AsFresh    = "fresh"    // for a shard that the server has sent to no node
	AsSpare    = "spare"    // for any shard, unless other nodes ask for fresh ones
)

// ErrHave means that a line is malformed.
var ErrHave = errors.New("malformed list of shards")

// A Change is the new state of shards From to To, numbered from 1 on.
type Change struct {
	State    State
	From, To int
}

// MaxLine returns the length in bytes, with its end, of the longest line for a version of
// that many shards.
func MaxLine(shards int) int { return shards*(len(strconv.Itoa(shards))+2) + 2 }

// AppendLine appends the line with the changes from before to now. The index of a state is
// the number of its shard less one. The two have the same length, or before is empty, which
// means that all shards are missing. Without changes the line is empty but for its end.
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

// ParseLine reads a line, without its end, for a version of that many shards. The line names
// each shard at most once, in ascending order, which bounds the number of changes and of
// their shards. Errors match [ErrHave].
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

// parseNumber reads a decimal number from 1 on, without a sign or leading zeros.
func parseNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || strconv.Itoa(n) != s {
		return 0, ErrHave
	}
	return n, nil
}
