package status

import (
	"fmt"
	"strings"
)

const (
	// MaxCells bounds the cells of a version.
	MaxCells = 200

	// maxRuns bounds the runs of shards that [Version.Runs] describes.
	maxRuns = 12
)

// Shard is how much of one shard is here.
type Shard struct {
	Here  bool  // all of it, verified
	Begun bool  // an upstream or a peer sends it
	Size  int64 // 0 while unknown
	Bytes int64 // that are here
}

// Cell stands for neighbouring shards: of a version with more than [MaxCells] shards several
// share one, and a run of shards that are all here, or all missing, is one cell.
type Cell struct {
	Shards   int     `json:"shards"`
	Here     int     `json:"here"`
	Arriving int     `json:"arriving"`
	Part     float64 `json:"part"` // of the arriving shards' bytes, from 0 to 1

	From int `json:"-"` // shards before the cell
}

// Add sets the counts and cells of v, and its Done if its Size is known.
func (v *Version) Add(shards []Shard) {
	v.ShardCount, v.Missing = len(shards), len(shards)
	var done int64
	cells := min(len(shards), MaxCells)
	for i := range cells {
		from, to := i*len(shards)/cells, (i+1)*len(shards)/cells
		c := Cell{Shards: to - from, From: from}
		var came, size int64 // of the arriving shards
		for _, s := range shards[from:to] {
			done += s.Bytes
			switch {
			case s.Here:
				c.Here++
			case s.Begun:
				c.Arriving++
				came, size = came+s.Bytes, size+s.Size
			}
		}
		c.Part = float64(came) / float64(max(size, 1))
		v.put(c)
	}
	if v.Size != nil {
		v.Done = &done
	}
}

// put counts c, and appends it to the cells, or to the last of them.
func (v *Version) put(c Cell) {
	v.Here += c.Here
	v.Arriving += c.Arriving
	v.Missing -= c.Here + c.Arriving
	last := len(v.Cells) - 1
	if last < 0 || c.state() != v.Cells[last].state() || c.state() != "here" && c.state() != "missing" {
		v.Cells = append(v.Cells, c)
		return
	}
	v.Cells[last].Shards += c.Shards
	v.Cells[last].Here += c.Here
}

func (c Cell) state() string {
	switch {
	case c.Here == c.Shards:
		return "here"
	case c.Arriving == c.Shards:
		return "arriving"
	case c.Here+c.Arriving == 0:
		return "missing"
	default:
		return "partly here"
	}
}

// Filled returns how much of the cell is here, from 0 to 1, with a part of its arriving shards.
func (c Cell) Filled(part float64) float64 {
	return (float64(c.Here) + part*float64(c.Arriving)) / float64(c.Shards)
}

// Runs describes the cells in words, such as "shards 1 to 3 here, shard 4 missing".
func (v Version) Runs() string {
	var runs []string
	for i := 0; i < len(v.Cells); {
		first, state := v.Cells[i].From+1, v.Cells[i].state()
		last := first - 1
		for ; i < len(v.Cells) && v.Cells[i].state() == state; i++ {
			last += v.Cells[i].Shards
		}
		name := fmt.Sprintf("shard %d ", first)
		if last > first {
			name = fmt.Sprintf("shards %d to %d ", first, last)
		}
		runs = append(runs, name+state)
	}
	if len(runs) > maxRuns {
		runs = append(runs[:maxRuns], "and so on")
	}
	return strings.Join(runs, ", ")
}
