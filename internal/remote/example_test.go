package remote_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/shardcast/shardcast/internal/disk"
	"github.com/shardcast/shardcast/internal/remote"
)

func ExampleClient_Get() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("the bytes of a shard"))
	}))
	defer upstream.Close()
	u, err := url.Parse(upstream.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := remote.New(remote.Options{Timeout: 30 * time.Second})
	defer client.Close()
	body, err := client.Get(context.Background(), remote.NewServer(u), remote.Request{
		Path: []string{"v1", "shard_001.bin"}, Want: disk.Range{From: 4, To: 9},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	fmt.Printf("%q from byte %d of %d, error: %v\n", text, body.From, body.Size, err)
	// Output:
	// "bytes" from byte 4 of 20, error: <nil>
}
