package fetch

import "time"

// SetDraw makes p forget its ranking and draw by draw.
func (p *Pool) SetDraw(draw func() float64) {
	p.rank = NewRanking(len(p.upstreams), time.Now, draw)
}
