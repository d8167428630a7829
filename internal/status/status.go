// Package status is what a server shows of itself: a page for people and the same as JSON
// for programs. It knows how that looks, and nothing of HTTP, nor of how any of it is
// found out.
//
// What a reader may lean on: every figure was measured. What is not known is left out, or
// stands on the page as a dash. And it is bounded: there are at most [MaxVersions],
// [MaxDownloads] and [MaxSamples] of each, and [MaxCells] of a version, and why something
// has failed is cut after [MaxError]. On the page texts that come from others are escaped,
// wherever they stand.
//
// Sizes are in bytes, speeds in bytes per second, and times in UTC.
package status

import (
	"encoding/json"
	"strings"
	"time"
)

// Bounds of what is shown, and of an error's text in bytes.
const (
	MaxVersions  = 50
	MaxDownloads = 50
	MaxError     = 300
)

// Status is what a server shows of itself. Its JSON is status.json.
type Status struct {
	// Role is origin or middle, and Build the version of its program.
	Role  string `json:"role"`
	Build string `json:"build"`

	// Time is when all this was found out, and Started when the server began.
	Time    time.Time `json:"time"`
	Started time.Time `json:"started"`

	// Ready says that the newest version that there is is served here, and NotReady why
	// it is not, as /readyz does.
	Ready    bool   `json:"ready"`
	NotReady string `json:"not_ready,omitempty"`

	// Versions are those on offer and those that arrive, the newest first, and
	// MoreVersions how many older ones there are.
	Versions     []Version `json:"versions"`
	MoreVersions int       `json:"more_versions"`

	// Upstreams are in the order in which they were named. An origin has none.
	Upstreams []Upstream `json:"upstreams,omitempty"`

	// Swarm is that of the server, if it has one.
	Swarm *Swarm `json:"swarm,omitempty"`

	// Downloads are those who are sent shards now, or were in the last seconds, the fastest
	// first, and MoreDownloads how many others there are.
	Downloads     []Download `json:"downloads"`
	MoreDownloads int        `json:"more_downloads"`

	// Throughput is that of shards.
	Throughput Throughput `json:"throughput"`

	// Disk is that of the data directory.
	Disk Disk `json:"disk"`
}

// States of a [Version].
const (
	Here     = "here"     // it is on offer, and all its files are there
	Arriving = "arriving" // it is being fetched, or cut
	Waiting  = "waiting"  // it is on offer, not whole, and nobody brings it at the moment
	Damaged  = "damaged"  // it is on offer, and files of it are gone
)

// Version is one that is here, or on its way.
type Version struct {
	// Version is its name, such as v7, and State one of the constants.
	Version string `json:"version"`
	State   string `json:"state"`

	// Name, Date and ShardSize are the manifest's, and Digest is the SHA-256 of the file or,
	// without a manifest, what distribution.txt states. They are missing while they are not
	// known.
	Name      string    `json:"name,omitempty"`
	Date      time.Time `json:"date,omitzero"`
	ShardSize int64     `json:"shard_size,omitempty"`
	Digest    string    `json:"digest,omitempty"`

	// Size is the file's, and Done how much of it is here, that of arriving shards
	// included. They are missing while the size is not known.
	Size *int64 `json:"size,omitempty"`
	Done *int64 `json:"done,omitempty"`

	// ShardCount is how many shards it has. Here of them are here and can be had whole,
	// Arriving are being brought, and Missing are neither.
	ShardCount int `json:"shard_count"`
	Here       int `json:"here"`
	Arriving   int `json:"arriving"`
	Missing    int `json:"missing"`

	// Cells are the shards in their order, see [Cell].
	Cells []Cell `json:"cells,omitempty"`
}

// Upstream is one that a middle follows.
type Upstream struct {
	// Upstream is its URL, without a password.
	Upstream string `json:"upstream"`

	// State is sending, idle, busy (it has told us to wait) or failing. Of a name with
	// several addresses it is the best one's.
	State string `json:"state"`

	// Up says that it has told what it offers when it was last asked, and Newest is the
	// newest version of that.
	Up     bool   `json:"up"`
	Newest string `json:"newest,omitempty"`

	// Received is what it has sent of shards since the server began, and Share the part
	// of that in all that came, from 0 to 1.
	Received int64   `json:"received"`
	Share    float64 `json:"share"`

	// Speed is what has come from it in the last seconds.
	Speed int64 `json:"speed"`

	// Throughput is the moving average of what one transfer brings, and Success that of how
	// often it does what it is asked to, from 0 to 1; it heals with time. They are missing
	// while nothing is known.
	Throughput int64    `json:"throughput,omitempty"`
	Success    *float64 `json:"success,omitempty"`

	// Error is what it has failed with last, and ErrorTime when, also when it has answered
	// since.
	Error     string    `json:"error,omitempty"`
	ErrorTime time.Time `json:"error_time,omitzero"`
}

// Swarm is what a server has to do with nodes that swap shards.
type Swarm struct {
	// Peers is how many follow this server, can be reached and are told to others.
	Peers int `json:"peers"`

	// Received is what peers have sent this server of shards since it began, Share the part
	// of that in all that came, from 0 to 1, and ReceivedSpeed what has come in the last
	// seconds. An origin is sent nothing.
	Received      int64   `json:"received"`
	Share         float64 `json:"share"`
	ReceivedSpeed int64   `json:"received_speed"`

	// Sent is what this server has sent peers, and SentSpeed what has gone in the last
	// seconds.
	Sent      int64 `json:"sent"`
	SentSpeed int64 `json:"sent_speed"`
}

// Download is what is sent to one client of one version.
type Download struct {
	// Client is an IP address, or of one that is not of a private network the network
	// that it is in.
	Client string `json:"client"`

	// Version is which.
	Version string `json:"version"`

	// Transfers is how many shards are being sent.
	Transfers int `json:"transfers"`

	// Sent is how much has been, since Since, and Speed how much in the last seconds.
	Sent  int64     `json:"sent"`
	Since time.Time `json:"since"`
	Speed int64     `json:"speed"`
}

// Throughput is what goes in and out of shards.
type Throughput struct {
	// Sent and Received are what has gone and come in the last seconds. An origin has
	// nothing that comes.
	Sent     int64  `json:"sent"`
	Received *int64 `json:"received,omitempty"`

	// Samples are of the last minutes, the oldest first, see [Recorder].
	Samples []Sample `json:"samples"`
}

// Disk is what the data directory takes.
type Disk struct {
	// Used is what all in it that is ours takes, unfinished and retired versions included.
	Used int64 `json:"used"`

	// Free is what may still be written there, and missing where that cannot be told.
	Free *int64 `json:"free,omitempty"`
}

// JSON returns what status.json says.
func (s Status) JSON() ([]byte, error) {
	text, err := json.Marshal(s)
	return append(text, '\n'), err
}

// Text returns what err says, as much of it as is shown, and nothing for nil.
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
