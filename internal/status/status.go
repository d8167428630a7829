// Package status is how a server shows itself: a page for people, and the same facts as JSON
// for programs.
//
// It promises that status.json keeps its fields, that the page needs nothing from elsewhere,
// and that it escapes each text, such as a file's name or an upstream's error. It refuses to
// know HTTP, and where a figure comes from: a [Status] is a plain value that a server fills in.
//
// A caller may lean on the size of the output, which its own care bounds: with at most
// [MaxVersions], [MaxDownloads] and [MaxSamples] of each the page stays below 5 MiB, for a
// version has at most [MaxCells] cells and [Text] cuts an error. What a caller leaves out is
// absent from the JSON, and a dash on the page.
//
// Sizes are in bytes, speeds in bytes per second over the last five to ten seconds, shares
// from 0 to 1, and times in UTC. docs/operations.md explains each field.
package status

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// SampleEvery is the time that a [Sample] covers.
const SampleEvery = 5 * time.Second

// Bounds of the lists, and of an error's text in bytes.
const (
	MaxVersions  = 50
	MaxDownloads = 50
	MaxSamples   = 120 // ten minutes
	MaxError     = 300
)

// Status is one look at a server. Its JSON is status.json.
type Status struct {
	Role          string     `json:"role"`           // origin or middle
	Host          string     `json:"host,omitempty"` // the machine's name, if it has one
	Build         string     `json:"build"`          // the version of the program
	Time          time.Time  `json:"time"`
	Started       time.Time  `json:"started"`
	Ready         bool       `json:"ready"`
	NotReady      string     `json:"not_ready,omitempty"` // the reason, as in /readyz
	Release       *Release   `json:"release,omitempty"`   // nil without a release.txt
	Versions      []Version  `json:"versions"`            // the newest first
	MoreVersions  int        `json:"more_versions"`       // older ones, beyond the bound
	Upstreams     []Upstream `json:"upstreams,omitempty"` // in the order of --upstream
	Swarm         *Swarm     `json:"swarm,omitempty"`     // nil without --swarm
	Downloads     []Download `json:"downloads"`           // the fastest first
	MoreDownloads int        `json:"more_downloads"`      // slower ones, beyond the bound
	Throughput    Throughput `json:"throughput"`
	DeltaSaved    int64      `json:"delta_saved,omitempty"` // bytes that deltas have saved since the start
	Disk          Disk       `json:"disk"`
}

// Release is the publisher's signed list of versions that a server has. Its server may not have
// verified it.
type Release struct {
	Feed    string    `json:"feed,omitempty"`
	Epoch   uint64    `json:"epoch,omitempty"`
	Seq     uint64    `json:"seq,omitempty"`
	Issued  time.Time `json:"issued,omitzero"`
	Expires time.Time `json:"expires,omitzero"` // zero for never
	Expired bool      `json:"expired"`
	Error   string    `json:"error,omitempty"` // why it cannot be read
}

// States of a [Version].
const (
	Here     = "here"     // on offer, with all its shards
	Arriving = "arriving" // some upstream sends it
	Waiting  = "waiting"  // on offer, and no upstream sends it now
	Damaged  = "damaged"  // on offer, and shards are gone from the disk
)

// Version is a version on offer, or arriving. [Version.Add] fills in its shards.
type Version struct {
	Version    string    `json:"version"`
	State      string    `json:"state"`
	Name       string    `json:"name,omitempty"` // the manifest's, as the next two
	Date       time.Time `json:"date,omitzero"`
	ShardSize  int64     `json:"shard_size,omitempty"`
	Digest     string    `json:"digest,omitempty"` // the manifest's, or that of distribution.txt
	Signed     *bool     `json:"signed,omitempty"` // the release lists it as it is here; nil without one
	Size       *int64    `json:"size,omitempty"`   // nil while no manifest is known
	Done       *int64    `json:"done,omitempty"`   // bytes here, likewise
	Speed      *int64    `json:"speed,omitempty"`  // at which it arrives, nil while unknown
	Arrival    time.Time `json:"arrival,omitzero"` // when it will be here at that speed, likewise
	ShardCount int       `json:"shard_count"`
	Here       int       `json:"here"`     // shards here
	Arriving   int       `json:"arriving"` // shards that an upstream or a peer sends
	Missing    int       `json:"missing"`  // the other shards
	Cells      []Cell    `json:"cells,omitempty"`
	Deltas     []Delta   `json:"deltas,omitempty"` // that the manifest names
}

// Delta makes a version from another one, its base.
type Delta struct {
	Base string `json:"base"`
	Size int64  `json:"size"`
}

// Upstream is a server that a middle fetches from.
type Upstream struct {
	Upstream   string    `json:"upstream"` // its URL without a password
	State      string    `json:"state"`    // sending, idle, busy (it asked us to wait) or failing
	Up         bool      `json:"up"`       // it answered the last request for its versions
	Newest     string    `json:"newest,omitempty"`
	Received   int64     `json:"received"` // bytes of shards since the start
	Share      float64   `json:"share"`    // of all received bytes
	Speed      int64     `json:"speed"`
	Throughput int64     `json:"throughput,omitempty"` // moving average of one transfer
	Success    *float64  `json:"success,omitempty"`    // moving average, nil while unknown
	Release    string    `json:"release,omitempty"`    // to a node with a key: newest, older, none or refused
	Error      string    `json:"error,omitempty"`      // its last failure, which a success does not clear
	ErrorTime  time.Time `json:"error_time,omitzero"`
	Distrust   string    `json:"distrust,omitempty"` // why its release is refused
}

// Swarm is the traffic of shards between a server and peers.
type Swarm struct {
	Peers         int     `json:"peers"`    // nodes that this server lists to one another
	Received      int64   `json:"received"` // bytes from peers since the start
	Share         float64 `json:"share"`    // of all received bytes
	ReceivedSpeed int64   `json:"received_speed"`
	Sent          int64   `json:"sent"` // bytes to peers since the start
	SentSpeed     int64   `json:"sent_speed"`
}

// Download is one client that receives shards of one version.
type Download struct {
	Client    string    `json:"client"`           // an IP address, or the network of a public one
	Reader    string    `json:"reader,omitempty"` // the name of its token
	Version   string    `json:"version"`
	Transfers int       `json:"transfers"` // shards being sent
	Sent      int64     `json:"sent"`      // bytes since Since
	Since     time.Time `json:"since"`
	Speed     int64     `json:"speed"`
}

// Throughput is the speed of all shards out and in. Received is nil at an origin.
type Throughput struct {
	Sent     int64    `json:"sent"`
	Received *int64   `json:"received,omitempty"`
	Samples  []Sample `json:"samples"` // of the last ten minutes, the oldest first
}

// Sample is a [Throughput] over the [SampleEvery] before Time.
type Sample struct {
	Time     time.Time `json:"time"`
	Sent     int64     `json:"sent"`
	Received *int64    `json:"received,omitempty"`
}

// Disk is the space of the data directory.
type Disk struct {
	Used int64  `json:"used"`           // by the directory, arriving and retired versions included
	Free *int64 `json:"free,omitempty"` // nil where the system does not report it
}

// maxLeft bounds the time until an [Version.Arrival]. A later one is unknown.
const maxLeft = 365 * 24 * time.Hour

// Expect sets the Speed and the Arrival of a version whose Size is known.
func (v *Version) Expect(speed int64, now time.Time) {
	if v.Size == nil || v.Done == nil || *v.Done >= *v.Size {
		return
	}
	v.Speed = &speed
	if left := float64(*v.Size-*v.Done) / float64(max(speed, 0)); left < maxLeft.Seconds() {
		v.Arrival = now.Add(time.Duration(left * float64(time.Second))).UTC()
	}
}

// JSON returns status.json. Of a version that cannot be written as JSON it has the number and
// the state: what one version says must not hide the others.
func (s Status) JSON() ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		s.Versions = slices.Clone(s.Versions)
		for i, v := range s.Versions {
			if _, err := json.Marshal(v); err != nil {
				s.Versions[i] = Version{Version: v.Version, State: v.State, Digest: v.Digest}
			}
		}
		text, err = json.Marshal(s)
	}
	return append(text, '\n'), err
}

// Text returns an error's text, cut after [MaxError] bytes, and no text for nil.
func Text(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if len(text) > MaxError {
		text = text[:MaxError] + "..."
	}
	return strings.ToValidUTF8(text, "_")
}
