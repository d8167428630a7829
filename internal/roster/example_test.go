package roster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
)

func ExampleRoster_Try() {
	r := roster.New(roster.Options{
		Upstreams: []*url.URL{{Scheme: "http", Host: "near.example"}, {Scheme: "http", Host: "far.example"}},
		Attempts:  5, Waits: roster.Waits{FastAttempts: 3, FastWait: 2 * time.Second, SlowWait: 15 * time.Second},
		Draw:   func() float64 { return 0 }, // rand.Float64, but for the same output every time
		Logger: slog.New(slog.DiscardHandler),
	})
	defer r.Close()
	err := r.Try(context.Background(), roster.Job{
		May: func(*remote.Server) bool { return true },
		Do: func(s *remote.Server) error {
			fmt.Println("asking", s.Name)
			if s.Name == "http://near.example" {
				return errors.New("connection refused")
			}
			return nil
		},
		Failed: func(errs []error) error { return errors.Join(errs...) },
		Logger: slog.New(slog.DiscardHandler),
	})
	fmt.Println("error:", err)
	// Output:
	// asking http://near.example
	// asking http://far.example
	// error: <nil>
}
