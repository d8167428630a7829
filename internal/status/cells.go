package status

import "iter"

// MaxCells is how many cells the shards of a version are drawn in at most.
const MaxCells = 200

// A Shard is how much of one is here.
type Shard struct {
	// Here says that it is here, and can be had whole.
	Here bool

	// Begun says that it is being brought.
	Begun bool

	// Size is the shard's, or 0 if it is not known, and Bytes what is here of it.
	Size, Bytes int64
}

// A Cell stands for shards in a row. Of a version with more than [MaxCells] of them, as
// many neighbours as it takes share one. Cells in a row of which all is here, or nothing,
// are one.
type Cell struct {
	// Shards is how many, of which Here are here and Arriving are being brought.
	Shards   int `json:"shards"`
	Here     int `json:"here"`
	Arriving int `json:"arriving"`

	// Part is how much of those that are being brought is here, from 0 to 1.
	Part float64 `json:"part"`
}

// plain reports whether there is nothing to see in c but that all is here, or nothing.
func (c Cell) plain() bool { return c.Here == c.Shards || c.Here+c.Arriving == 0 }

// Add says how much there is of each of the version's shards, of which there are count.
// It sets what the version says of shards, and Done if Size is known.
func (v *Version) Add(count int, shards iter.Seq[Shard]) {
	v.ShardCount, v.Here, v.Arriving, v.Missing, v.Cells = count, 0, 0, count, nil
	var cell Cell
	var come, coming, done int64 // of the cell's arriving shards; of all
	cells, number := min(count, MaxCells), 0
	for s := range shards {
		number++
		cell.Shards++
		done += s.Bytes
		switch {
		case s.Here:
			cell.Here++
		case s.Begun:
			cell.Arriving++
			come += s.Bytes
			coming += s.Size
		}
		// The cells are of the same length, but for one shard.
		if number*cells/count == (number-1)*cells/count {
			continue
		}
		if coming > 0 {
			cell.Part = float64(come) / float64(coming)
		}
		v.put(cell)
		cell, come, coming = Cell{}, 0, 0
	}
	if v.Size != nil {
		v.Done = &done
	}
}

// put adds a cell.
func (v *Version) put(c Cell) {
	v.Here += c.Here
	v.Arriving += c.Arriving
	v.Missing -= c.Here + c.Arriving
	if last := len(v.Cells) - 1; last >= 0 && c.plain() && v.Cells[last].plain() && (c.Here > 0) == (v.Cells[last].Here > 0) {
		v.Cells[last].Shards += c.Shards
		v.Cells[last].Here += c.Here
		return
	}
	v.Cells = append(v.Cells, c)
}
