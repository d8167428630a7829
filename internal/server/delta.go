package server

import (
	"net/http"

	"github.com/shardcast/shardcast/internal/bucket"
)

// delta answers with the manifest of a delta.
func (f *files) delta(w http.ResponseWriter, r *http.Request, t target) error {
	d, err := f.catalog.Delta(t.version, t.base)
	if err != nil {
		return err
	}
	defer d.Close()
	text, tag, err := d.Text()
	if err != nil {
		return err
	}
	if err := pin(w, r, tag, f.keep); err != nil {
		return err
	}
	serve(w, r, "application/json", tag, text)
	return nil
}

// deltaShard answers with a shard of a delta.
func (f *files) deltaShard(w http.ResponseWriter, r *http.Request, t target) error {
	s, err := f.catalog.DeltaShard(t.version, t.base, t.number)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := pin(w, r, s.Digest, f.keep); err != nil {
		return err
	}
	serve(w, r, binary, s.Digest, bucket.Throttle(r.Context(), s.File, t.buckets))
	return nil
}
