package trust

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// maxServers bounds the memory for servers: swarms may have thousands.
	maxServers = 256

	// maxReasons is how many servers an error names.
	maxReasons = 8
)

// State says how the release of a server stands to the newest one.
type State string

// The states of a server.
const (
	StateNewest  State = "newest"  // it offers the newest release
	StateOlder   State = "older"   // it offers an older one, so it lags, or replays it
	StateNone    State = "none"    // it offers none, as nodes that know no releases
	StateRefused State = "refused" // see [Server.Err]
	StateUnknown State = "unknown" // it could not be received, see [Server.Err]
)

// Server is what one server has offered last.
type Server struct {
	// Name is the server's, as in [Keeper.Offer].
	Name string

	// State is that of its release, and Err the reason why it is refused or unknown.
	State State
	Err   error

	// Epoch and Seq are those of its release, and zero without one, and if it is refused for its
	// form or signature.
	Epoch, Seq uint64

	// Since is the time from which on it has offered that, and Offers how often.
	Since  time.Time
	Offers uint64

	last verdict
}

// Counts are the numbers of offers since the Keeper was opened.
type Counts struct {
	// Accepted are those that became the newest release, or were it already.
	Accepted uint64

	// Older were ignored, Refused were not the publisher's word, and of None there was no text.
	Older, Refused, None uint64
}

// Servers returns what the servers have offered last, by name. Of more than 256 servers it knows those
// that have changed last.
func (k *Keeper) Servers() []Server {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []Server
	for _, name := range slices.Sorted(maps.Keys(k.standing)) {
		s := *k.standing[name]
		if s.State == StateNewest && s.last.rank.compare(rankOf(k.newest)) < 0 {
			s.State = StateOlder
		}
		all = append(all, s)
	}
	return all
}

// Failed notes why the release of a server could not be received, unless it has offered one before,
// or said that it has none: that stands.
func (k *Keeper) Failed(server string, err error) {
	if v, ok := k.lastOf(server); !ok || v.state == StateUnknown {
		k.note(server, verdict{state: StateUnknown, err: err})
	}
}

// Counts returns the numbers of offers.
func (k *Keeper) Counts() Counts {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.counts
}

// Forget drops what is known of a server that is asked no more.
func (k *Keeper) Forget(server string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.standing, server)
}

// lastOf returns the verdict on what a server has offered last.
func (k *Keeper) lastOf(server string) (verdict, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.standing[server]; ok {
		return s.last, true
	}
	return verdict{}, false
}

// note keeps a verdict on what a server offers, and logs it if it is another one than before.
func (k *Keeper) note(server string, v verdict) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count(v.state)
	s, ok := k.standing[server]
	if ok && s.last.state == v.state && s.last.digest == v.digest {
		s.Offers, s.Err = s.Offers+1, v.err
		return
	}
	if !ok && len(k.standing) == maxServers {
		oldest := slices.MinFunc(slices.Collect(maps.Values(k.standing)), func(a, b *Server) int {
			return a.Since.Compare(b.Since)
		})
		delete(k.standing, oldest.Name)
	}
	k.standing[server] = &Server{
		Name: server, State: v.state, Err: v.err, Epoch: v.rank.epoch, Seq: v.rank.seq,
		Since: k.now(), Offers: 1, last: v,
	}
	switch v.state {
	case StateRefused:
		k.log.Warn("release refused", "upstream", server, "err", v.err)
	case StateOlder:
		k.log.Info("release ignored: an older one than is known", "upstream", server,
			"epoch", v.rank.epoch, "seq", v.rank.seq,
			"newest_epoch", k.newest.Release.Epoch, "newest_seq", k.newest.Release.Seq)
	case StateNewest, StateNone, StateUnknown:
	}
}

// count counts an offer. The caller holds mu.
func (k *Keeper) count(state State) {
	switch state {
	case StateNewest:
		k.counts.Accepted++
	case StateOlder:
		k.counts.Older++
	case StateRefused:
		k.counts.Refused++
	case StateNone:
		k.counts.None++
	case StateUnknown:
	}
}

// reasons says of the servers why they have no release that counts.
func (k *Keeper) reasons() string {
	var said []string
	for _, s := range k.Servers() {
		switch {
		case len(said) == maxReasons:
			return ": " + strings.Join(append(said, "and others"), "; ")
		case s.State == StateUnknown && strings.HasPrefix(s.Err.Error(), s.Name):
			said = append(said, s.Err.Error()) // it names the server itself
		case s.State == StateRefused || s.State == StateUnknown:
			said = append(said, fmt.Sprintf("%s: %v", s.Name, s.Err))
		case s.State == StateNone:
			said = append(said, s.Name+" offers none")
		}
	}
	if len(said) == 0 {
		return "; no server has answered yet"
	}
	return ": " + strings.Join(said, "; ")
}
