package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shardcast/shardcast/internal/catalog"
	"github.com/shardcast/shardcast/internal/server"
)

func TestPageMayReadTheAnswersThatItNeeds(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Web: server.Web{Origins: []string{"*"}}})
	for path, status := range map[string]int{
		"/v1/shard_001.bin": http.StatusOK, "/distribution.txt": http.StatusOK, "/missing": http.StatusNotFound,
	} {
		got := s.get(t, path, "Origin", "https://example.com")
		assert.Equal(t, status, got.status)
		assert.Equal(t, "*", got.header.Get("Access-Control-Allow-Origin"), path)
		assert.ElementsMatch(t, []string{
			"ETag", "Content-Range", "Content-Length", "Accept-Ranges", "Retry-After", "Preference-Applied",
			"Shardcast-Tier", "Shardcast-Release",
		}, strings.Split(got.header.Get("Access-Control-Expose-Headers"), ", "), path)
	}
}

func TestPageMaySendTheHeadersThatWeUnderstand(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Web: server.Web{Origins: []string{"*"}}})
	for _, path := range []string{"/v1/shard_001.bin", "/py03/distribution.txt", "/missing"} {
		got := s.ask(t, http.MethodOptions, path, "Origin", "https://example.com",
			"Access-Control-Request-Method", "GET",
			"Access-Control-Request-Headers", "if-none-match,prefer,range")
		assert.Equal(t, http.StatusNoContent, got.status, path)
		assert.Empty(t, got.body)
		assert.Equal(t, "*", got.header.Get("Access-Control-Allow-Origin"))
		assert.Equal(t, "GET, HEAD", got.header.Get("Access-Control-Allow-Methods"))
		assert.Equal(t, "Range, If-None-Match, Prefer, Authorization",
			got.header.Get("Access-Control-Allow-Headers"))
		assert.Equal(t, "86400", got.header.Get("Access-Control-Max-Age"))
	}
	for _, path := range []string{"/v1/shard_001.bin", "/missing"} {
		got := s.ask(t, http.MethodOptions, path, "Origin", "https://example.com")
		assert.Equal(t, http.StatusMethodNotAllowed, got.status, "it is no preflight")
		assert.Empty(t, got.header.Get("Access-Control-Allow-Methods"))
	}
	got := s.ask(t, http.MethodPost, "/v1/shard_001.bin", "Access-Control-Request-Method", "POST")
	assert.Equal(t, http.StatusMethodNotAllowed, got.status)
}

func TestPagesOfOtherSitesMayReadNothingUnlessTheirSiteIsAllowed(t *testing.T) {
	st := open(t, t.TempDir())
	publish(t, st, 1, text)
	for name, tc := range map[string]struct {
		allowed []string
		want    string
	}{
		"none":    {nil, ""},
		"another": {[]string{"https://other.example", "http://page.example"}, ""},
		"this":    {[]string{"https://other.example", "https://page.example"}, "https://page.example"},
		"all":     {[]string{"*"}, "*"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiteAs(t, server.Options{Catalog: catalog.New(st, nil), Web: server.Web{Origins: tc.allowed}})
			got := s.get(t, "/v1/shard_001.bin", "Origin", "https://page.example")
			assert.Equal(t, http.StatusOK, got.status)
			assert.Equal(t, tc.want, got.header.Get("Access-Control-Allow-Origin"))
			if tc.allowed != nil && tc.want != "*" {
				assert.Equal(t, "Origin", got.header.Get("Vary"), "a cache keeps an answer for each site")
			}
			got = s.ask(t, http.MethodOptions, "/v1/shard_001.bin", "Origin", "https://page.example",
				"Access-Control-Request-Method", "GET")
			assert.Equal(t, tc.want, got.header.Get("Access-Control-Allow-Origin"))
			assert.Equal(t, tc.want != "", got.status == http.StatusNoContent)
		})
	}
}
