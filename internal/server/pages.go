package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/shardcast/shardcast/internal/wire"
)

// Web says which web pages may read what a server serves. A browser that has a page of
// another site open can reach servers that the site cannot.
type Web struct {
	// Names are those of the server. It answers nodes of ours under any name, and other
	// clients under these.
	Names wire.Names

	// Origins are the sites, such as https://dashboard.example.com, whose pages may read
	// everything but the status, the metrics and peers.txt. "*" stands for all.
	Origins []string
}

// Header fields for a page of another site (https://fetch.spec.whatwg.org).
const (
	// allowOrigin names the site whose pages may read the answer.
	allowOrigin = "Access-Control-Allow-Origin"

	// resourcePolicy keeps a page of another site from embedding the answer, without reading it.
	resourcePolicy = "Cross-Origin-Resource-Policy"

	// exposedFields are those of an answer that the page may read.
	exposedFields = "ETag, Content-Range, Content-Length, Accept-Ranges, Retry-After, Preference-Applied, " +
		wire.TierHeader + ", " + wire.ReleaseHeader

	// allowedFields are those that it may send, beside those that any page may send.
	allowedFields = "Range, If-None-Match, Prefer, Authorization"

	// preflightAge in seconds is how long the browser need not ask again.
	preflightAge = "86400"
)

const (
	// mostForeign bounds the foreign names that are logged and remembered, and maxName in
	// bytes the part of one that is shown: they come from the network.
	mostForeign = 16
	maxName     = 255

	// machineTimeout bounds the look-up of this machine's name.
	machineTimeout = 2 * time.Second
)

// pages keeps the pages of other sites from reading: those that a browser asks for here by
// the name of a site (DNS rebinding), and those that are allowed by none of the origins.
type pages struct {
	next    http.Handler
	names   wire.Names
	origins []string
	logger  *slog.Logger

	mu      *sync.Mutex // guards what follows
	foreign map[string]bool
}

func newPages(next http.Handler, web Web, logger *slog.Logger) pages {
	return pages{
		next: next, names: web.Names, origins: web.Origins, logger: logger,
		mu: new(sync.Mutex), foreign: make(map[string]bool),
	}
}

// MachineNames returns the names of this machine, for [wire.Names]. It may ask a name server,
// for 2 s at most.
func MachineNames() []string {
	name, err := os.Hostname()
	if err != nil {
		return nil
	}
	names := []string{name}
	ctx, cancel := context.WithTimeout(context.Background(), machineTimeout)
	defer cancel()
	if whole, err := net.DefaultResolver.LookupCNAME(ctx, name); err == nil {
		names = append(names, whole)
	}
	return names
}

func (h pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	keepFromSites(w.Header())
	if r.Header.Get(wire.NodeHeader) == "" && !h.names.Have(r.Host) {
		h.warn(r)
		w.Header().Set("Cache-Control", noStore)
		http.Error(w, fmt.Sprintf("this server does not go by the name %.*q: ask for it by its address, or start it"+
			" with --allow-host and that name", maxName, r.Host), http.StatusMisdirectedRequest)
		return
	}
	allowed := h.allow(w, r)
	if allowed && r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		header := w.Header()
		header.Set("Access-Control-Allow-Methods", "GET, HEAD")
		header.Set("Access-Control-Allow-Headers", allowedFields)
		header.Set("Access-Control-Max-Age", preflightAge)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	h.next.ServeHTTP(w, r)
}

// allow states whether pages of the site that asks may read the answer, and reports it.
func (h pages) allow(w http.ResponseWriter, r *http.Request) bool {
	header := w.Header()
	site := "*"
	if !slices.Contains(h.origins, site) {
		if len(h.origins) == 0 {
			return false
		}
		header.Set("Vary", "Origin")
		if site = r.Header.Get("Origin"); !slices.Contains(h.origins, site) {
			return false
		}
	}
	header.Set(allowOrigin, site)
	header.Set("Access-Control-Expose-Headers", exposedFields)
	header.Del(resourcePolicy)
	return true
}

// keepFromSites states that no page of another site may read or embed the answer.
func keepFromSites(header http.Header) {
	header.Del(allowOrigin)
	header.Set(resourcePolicy, "same-origin")
}

// warn warns of a name that is no name of this server, once.
func (h pages) warn(r *http.Request) {
	name := r.Host[:min(len(r.Host), maxName)]
	h.mu.Lock()
	known := h.foreign[name] || len(h.foreign) == mostForeign
	if !known {
		h.foreign[name] = true
	}
	h.mu.Unlock()
	if !known {
		h.logger.Warn("request by a foreign name refused", "host", name, "client", r.RemoteAddr,
			"hint", "if it is a name of this server, give --allow-host")
	}
}
