package server

import (
	"net/http"
	"time"
)

// deltaWait is how long a reader waits for the manifest of a delta that may be about to arrive. It is less than
// the time after which the next node gives such a delta up.
const deltaWait = 5 * time.Second

// delta answers with the manifest of a delta.
func (f *files) delta(w http.ResponseWriter, r *http.Request, t target) error {
	d, err := f.catalog.Delta(r.Context(), t.version, t.base, deltaWait)
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
	if tier, ok := d.Arriving(); ok {
		arrives(w, tier)
	}
	serve(w, r, "application/json", tag, text)
	return nil
}

// deltaShard answers with a shard of a delta.
func (f *files) deltaShard(w http.ResponseWriter, r *http.Request, t target) error {
	s, err := f.catalog.DeltaShard(r.Context(), t.version, t.base, t.number)
	if err != nil {
		return err
	}
	return f.send(w, r, s)
}
