package offers_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/offers"
	"github.com/shardcast/shardcast/internal/remote"
	"github.com/shardcast/shardcast/internal/roster"
)

func ExampleOffers_Refresh() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "v1: %s\nv2: %s\n", strings.Repeat("0a", 32), strings.Repeat("0b", 32))
	}))
	defer server.Close()
	upstream, err := url.Parse(server.URL)
	if err != nil {
		panic(err)
	}
	client := remote.New(remote.Options{Timeout: time.Minute})
	defer client.Close()
	logger := slog.New(slog.DiscardHandler)
	servers := roster.New(roster.Options{Upstreams: []*url.URL{upstream}, Attempts: 1, Logger: logger})
	defer servers.Close()

	o := offers.New(offers.Options{
		Timeout: time.Minute, Attempts: 1, Remote: client, Roster: servers, Logger: logger,
	})
	defer o.Close()
	if err := o.Refresh(context.Background(), offers.Soon); err != nil {
		panic(err)
	}
	for _, e := range o.Offers() {
		fmt.Println(e.Version)
	}
	// Output:
	// v1
	// v2
}
