package rank_test

import (
	"fmt"
	"time"

	"github.com/shardcast/shardcast/internal/rank"
)

func ExampleRanking() {
	half := func() float64 { return 0.5 } // rand.Float64, but for the same output every time
	r := rank.NewRanking(2, time.Now, half)
	r.Delivered(0, 50_000_000, time.Second)
	r.Delivered(1, 1_000_000, time.Second)
	all := func(int) bool { return true }
	fmt.Println(r.Pick(all), r.Good(0), r.Good(1))
	// Output: 0 true false
}

func ExamplePace_Crawls() {
	var p rank.Pace
	for range 40 {
		p.Add(1000) // bytes in a tick
	}
	others := []float64{1_000_000, 2_000_000, 3_000_000} // bytes per second
	fmt.Println(p.Speed(), p.Crawls(others, 20), p.Crawls(nil, 20))
	// Output: 4000 true false
}
