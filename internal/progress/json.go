package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/shardcast/shardcast"
)

// versionObject is a version, and with a path and progress a download of it. Fields that
// manifest.json has, too, have the same names. Unknown ones are left out.
type versionObject struct {
	Event string `json:"event,omitempty"` // delivered, by follow

	Version    string    `json:"version"`
	Name       string    `json:"name,omitempty"`
	Date       time.Time `json:"date,omitzero"`
	Size       *int64    `json:"size,omitempty"`
	ShardSize  *int64    `json:"shard_size,omitempty"`
	ShardCount *int64    `json:"shard_count,omitempty"`
	Digest     string    `json:"digest"`
	BLAKE3     string    `json:"blake3,omitempty"`

	Labels    map[string]string `json:"labels,omitempty"`
	FileCount *int64            `json:"file_count,omitempty"` // of a directory
	Files     []fileObject      `json:"files,omitempty"`
	Deltas    []deltaObject     `json:"deltas,omitempty"`
	Pinned    bool              `json:"pinned,omitempty"` // in a data directory
	Signed    bool              `json:"signed,omitempty"` // a release lists it
	Release   *releaseObject    `json:"release,omitempty"`

	Path     *string         `json:"path,omitempty"`
	Verified string          `json:"verified,omitempty"` // signed, or shards, and not the whole
	Progress *progressObject `json:"progress,omitempty"`

	Again   bool     `json:"again,omitempty"`   // of a broadcast: it was there already
	Seconds *float64 `json:"seconds,omitempty"` // of a broadcast
}

// fileObject is a file of a directory, as in files.jsonl but for its place in the stream.
type fileObject struct {
	Path       string `json:"path"`
	Directory  bool   `json:"directory,omitempty"`
	Size       *int64 `json:"size,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Executable bool   `json:"executable,omitempty"`
}

// deltaObject is a delta of a version. The ratio says how many times smaller than the version it is.
type deltaObject struct {
	Base       string   `json:"base"`
	BaseDigest string   `json:"base_digest"`
	Size       int64    `json:"size"`
	Ratio      float64  `json:"ratio"`
	Seconds    *float64 `json:"seconds,omitempty"` // of a broadcast
}

// progressObject is a line of progress.
type progressObject struct {
	Event     string           `json:"event"` // progress, done or failed
	Version   string           `json:"version,omitempty"`
	Phase     string           `json:"phase,omitempty"` // not of done
	Size      *int64           `json:"size,omitempty"`
	Done      int64            `json:"done"`
	Resumed   int64            `json:"resumed"`
	Rebuilt   int64            `json:"rebuilt,omitempty"`
	Delta     int64            `json:"delta,omitempty"`
	Received  int64            `json:"received"`
	Peers     int64            `json:"peers,omitempty"` // the part of Received from them
	Wasted    int64            `json:"wasted"`
	Given     int64            `json:"given,omitempty"` // to peers
	Seconds   float64          `json:"seconds"`
	Speed     float64          `json:"speed"`
	Upstreams []upstreamObject `json:"upstreams"`
	Error     string           `json:"error,omitempty"` // of failed
}

// upstreamObject is the part of a server or peer in a line of progress.
type upstreamObject struct {
	Upstream  string  `json:"upstream"`
	Peer      bool    `json:"peer,omitempty"`
	State     string  `json:"state"`
	Error     string  `json:"error,omitempty"`
	Transfers int     `json:"transfers"`
	Received  int64   `json:"received"`
	Speed     float64 `json:"speed"`
}

// WriteVersion writes v to w as JSON, on one line, with the release if that lists it.
func WriteVersion(w io.Writer, v shardcast.Version, r shardcast.Release) error {
	object := versionOf(v)
	if v.Signed {
		object.Release = releaseOf(r)
	}
	return writeLine(w, object)
}

// WriteHeldVersion writes v to w as JSON, on one line, with the release if that lists it.
func WriteHeldVersion(w io.Writer, v shardcast.HeldVersion, r shardcast.Release) error {
	object := versionOf(v.Version)
	object.Pinned, object.Signed = v.Pinned, v.Signed
	if v.Signed {
		object.Release = releaseOf(r)
	}
	return writeLine(w, object)
}

func releaseOf(r shardcast.Release) *releaseObject {
	object := &releaseObject{Feed: r.Feed, Epoch: r.Epoch, Seq: r.Seq, Issued: r.Issued, Expires: "never"}
	if !r.Expires.IsZero() {
		object.Expires = r.Expires.Format(time.RFC3339)
	}
	return object
}

// releaseObject is a release in JSON.
type releaseObject struct {
	Feed    string    `json:"feed"`
	Epoch   uint64    `json:"epoch"`
	Seq     uint64    `json:"seq"`
	Issued  time.Time `json:"issued"`
	Expires string    `json:"expires"`
}

// WriteResult writes the download r to w as JSON, on one line.
func WriteResult(w io.Writer, r shardcast.Result) error { return writeLine(w, resultOf(r)) }

// WriteDelivered writes the version r that a follower has delivered to w as JSON, on one line.
func WriteDelivered(w io.Writer, r shardcast.Result) error {
	object := resultOf(r)
	object.Event = "delivered"
	return writeLine(w, object)
}

// passedObject is a version that a follower has left out.
type passedObject struct {
	Event   string `json:"event"` // passed-over
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Why     string `json:"why"`
	Error   string `json:"error"`
}

// WritePassedOver writes the version v that a follower has left out because of err to w as JSON, on
// one line.
func WritePassedOver(w io.Writer, v shardcast.Version, err error) error {
	return writeLine(w, passedObject{"passed-over", v.Name, v.Digest, whyOf(err), err.Error()})
}

// whyOf is one word for the reason why a version was left out.
func whyOf(err error) string {
	for _, known := range []struct {
		err  error
		word string
	}{
		{shardcast.ErrNewer, "newer"},
		{shardcast.ErrNoVersion, "retired"},
		{shardcast.ErrIntegrity, "integrity"},
		{shardcast.ErrLabel, "label"},
		{shardcast.ErrTooLarge, "too-large"},
		{shardcast.ErrNotTrusted, "not-trusted"},
	} {
		if errors.Is(err, known.err) {
			return known.word
		}
	}
	return "failed"
}

func resultOf(r shardcast.Result) versionObject {
	object, progress := versionOf(r.Version), progressOf("done", r.Progress)
	object.Path, object.Progress = &r.Path, &progress
	if r.Verified != shardcast.VerifiedWhole {
		object.Verified = r.Verified
	}
	return object
}

// eventObject is what happens to a run that is followed.
type eventObject struct {
	Event   string `json:"event"` // gap or new-run
	Run     string `json:"run"`
	Version string `json:"version,omitempty"`
	Missing string `json:"missing,omitempty"`
}

// WriteGap writes g to w as JSON, on one line.
func WriteGap(w io.Writer, g shardcast.Gap) error {
	return writeLine(w, eventObject{Event: "gap", Run: g.Run, Version: g.Version, Missing: g.Missing})
}

// WriteRun writes to w as JSON, on one line, that a run has begun.
func WriteRun(w io.Writer, run string) error {
	return writeLine(w, eventObject{Event: "new-run", Run: run})
}

// WriteBroadcast writes the broadcast r of a version to w as JSON, on one line, with the release
// that lists it, unless that is nil.
func WriteBroadcast(w io.Writer, r shardcast.Result, release *shardcast.Release) error {
	object, seconds := versionOf(r.Version), milliseconds(r.Progress.Elapsed)
	if release != nil {
		object.Signed, object.Release = true, releaseOf(*release)
	}
	object.Again, object.Seconds = r.Again, &seconds
	for i, d := range r.Version.Deltas {
		took := milliseconds(d.Elapsed)
		object.Deltas[i].Seconds = &took
	}
	return writeLine(w, object)
}

func versionOf(v shardcast.Version) versionObject {
	date := v.Date.UTC()
	if _, err := date.MarshalText(); err != nil {
		date = time.Time{} // what one version says must not hide the others
	}
	object := versionObject{
		Version: v.Name, Name: v.File, Date: date, Digest: v.Digest, BLAKE3: v.BLAKE3, Labels: v.Labels,
		Size: known(v.Size), ShardSize: known(v.ShardSize), ShardCount: known(int64(v.Shards)),
		Signed: v.Signed,
	}
	if v.Directory {
		object.FileCount = known(int64(v.FileCount))
	}
	for _, d := range v.Deltas {
		object.Deltas = append(object.Deltas, deltaObject{
			Base: d.Base, BaseDigest: d.BaseDigest, Size: d.Size, Ratio: ratio(v.Size, d.Size),
		})
	}
	for _, f := range v.Files {
		file := fileObject{Path: f.Path, Directory: f.Directory, Digest: f.Digest, Executable: f.Executable}
		if !f.Directory {
			file.Size = &f.Size
		}
		object.Files = append(object.Files, file)
	}
	return object
}

func progressOf(event string, p shardcast.Progress) progressObject {
	upstreams := make([]upstreamObject, len(p.Upstreams))
	for i, u := range p.Upstreams {
		upstreams[i] = upstreamObject{u.URL, u.Peer, u.State, u.Err, u.Transfers, u.Received, finite(u.Speed)}
	}
	return progressObject{
		Event: event, Version: p.Version, Phase: p.Phase, Size: known(p.Size),
		Done: p.Done, Resumed: p.Resumed, Rebuilt: p.Rebuilt, Delta: p.Delta,
		Received: p.Received, Peers: p.Peers, Wasted: p.Wasted, Given: p.Given,
		Seconds: milliseconds(p.Elapsed), Speed: finite(p.Speed), Upstreams: upstreams,
	}
}

// ratio is how many times smaller a part is than the whole, to a tenth.
func ratio(whole, part int64) float64 {
	return math.Round(10*float64(whole)/float64(max(part, 1))) / 10
}

// milliseconds is d in seconds, to a thousandth.
func milliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// known is n, or nil if it is -1.
func known(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// writeLine writes object to w in one Write. It escapes the characters from U+007F on that a
// terminal would not print; package json escapes those below.
func writeLine(w io.Writer, object any) error {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false) // a URL stays readable
	if err := encoder.Encode(object); err != nil {
		return err
	}
	_, err := w.Write(escapeJSON(line.Bytes()))
	return err
}

func escapeJSON(line []byte) []byte {
	var escaped []byte
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		if r < 0x7f || strconv.IsPrint(r) {
			escaped = append(escaped, line[:n]...)
		} else {
			for _, unit := range utf16.AppendRune(nil, r) {
				escaped = append(escaped, `\u`...)
				escaped = append(escaped, strconv.FormatInt(0x10000+int64(unit), 16)[1:]...)
			}
		}
		line = line[n:]
	}
	return escaped
}

// lines writes progress as JSON lines.
type lines struct {
	out     io.Writer
	last    shardcast.Progress // Size is -1 before the first update
	written time.Time          // when the last line was
}

// update writes p, unless it is in the phase of the last line and that is less than a second
// ago. Calls must not overlap.
func (l *lines) update(p shardcast.Progress) {
	before := l.last.Phase
	l.last = p
	if now := time.Now(); now.Sub(l.written) >= time.Second || p.Phase != before {
		l.written = now
		l.write(progressOf("progress", p))
	}
}

// end writes the last line.
func (l *lines) end(event string, p shardcast.Progress, err error) {
	object := progressOf(event, p)
	if err != nil {
		object.Error = err.Error()
	}
	l.write(object)
	l.last, l.written = shardcast.Progress{Size: -1}, time.Time{} // there may be another download
}

func (l *lines) write(object progressObject) {
	_ = writeLine(l.out, object) // stderr is gone, and with it the reader of an error
}
