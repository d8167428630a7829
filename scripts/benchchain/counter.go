package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
)

// passed is what has been passed on of one shard.
type passed struct {
	requests, bytes atomic.Int64
}

// A counter stands before a server and counts what it sends of each shard.
type counter struct {
	*httptest.Server

	address string

	mu     sync.Mutex // guards shards
	shards map[string]*passed
}

// newCounter stands before the server at upstream until it is closed.
func newCounter(upstream string) *counter {
	c := &counter{shards: make(map[string]*passed)}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}
	c.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: upstream}) },
		Transport:     transport,
		FlushInterval: -1, // what has come is passed on
		ModifyResponse: func(resp *http.Response) error {
			if resp.Request.Method == http.MethodGet && resp.StatusCode/100 == 2 {
				p := c.shard(resp.Request.URL.Path)
				p.requests.Add(1)
				resp.Body = counted{resp.Body, &p.bytes}
			}
			return nil
		},
	})
	c.address = strings.TrimPrefix(c.URL, "http://")
	return c
}

// shard is the count of the shard at path.
func (c *counter) shard(path string) *passed {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shards[path] == nil {
		c.shards[path] = new(passed)
	}
	return c.shards[path]
}

// counted counts what is read.
type counted struct {
	io.ReadCloser

	bytes *atomic.Int64
}

// Read reads into p.
func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}
