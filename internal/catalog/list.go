package catalog

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/relay"
	"github.com/shardcast/shardcast/internal/shard"
	"github.com/shardcast/shardcast/internal/store"
)

// Entries returns the newest of the versions on offer, held and arriving, ascending.
func (c *Catalog) Entries() ([]distfile.Entry, error) {
	entries, _, err := c.entries()
	return entries, err
}

// entries returns also those that are arriving.
func (c *Catalog) entries() (all, arriving []distfile.Entry, err error) {
	// A version that moves between the board and the directory meanwhile is in one of them.
	// Were it in none, other nodes would take it for retired.
	var held []distfile.Entry
	arriving = c.board.Look(func() { held, err = c.store.Distribution() })
	if err != nil {
		return nil, nil, err
	}
	return union(held, arriving), arriving, nil
}

// union returns the newest of held and arriving, which is ascending.
func union(held, arriving []distfile.Entry) []distfile.Entry {
	all := slices.DeleteFunc(held, func(e distfile.Entry) bool { return has(arriving, e.Version) })
	all = append(all, arriving...)
	slices.SortFunc(all, func(a, b distfile.Entry) int { return cmp.Compare(a.Version, b.Version) })
	return all[max(0, len(all)-distfile.MaxEntries):]
}

// has reports whether entries, which are ascending, have the version v.
func has(entries []distfile.Entry, v shard.Version) bool {
	_, found := slices.BinarySearchFunc(entries, v, func(e distfile.Entry, v shard.Version) int {
		return cmp.Compare(e.Version, v)
	})
	return found
}

// An Offer is a version on offer, with what its manifest states.
type Offer struct {
	// Entry is the version's line in the directory, or on the board.
	Entry distfile.Entry

	// Foreign means that another program has put the version here without a manifest.
	Foreign bool

	// SHA256 is the file's, which the manifest states.
	SHA256 shard.Digest

	// BLAKE3 is the file's, or zero if it is not known.
	BLAKE3 shard.Digest

	// Count is the number of shards.
	Count int
}

// Offers returns the versions of [Catalog.Entries] as offers. It omits versions whose
// manifest has not come yet, or is that of another file.
func (c *Catalog) Offers() ([]Offer, error) {
	c.describing.Lock()
	defer c.describing.Unlock()
	entries, arriving, err := c.entries()
	if err != nil {
		return nil, err
	}
	var offers []Offer
	described := make(map[shard.Version]description, len(entries))
	for _, e := range entries {
		arrives := has(arriving, e.Version)
		describe := c.describeHeld
		if arrives {
			describe = c.describeArriving
		}
		before := c.described[e.Version]
		d, err := describe(e, before)
		if arrives && errors.Is(err, fs.ErrNotExist) { // it has just moved to the directory
			d, err = c.describeHeld(e, before)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && before.isOf(e) {
			d, err = before, nil // it cannot be read now, and is the same file
		}
		switch {
		case err == nil:
			described[e.Version] = d
			if d.isOf(e) {
				offers = append(offers, Offer{Entry: e, SHA256: d.digest, BLAKE3: d.blake3, Count: d.count})
			}
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case !arrives && c.store.Holds(e.Version): // else it has just been retired
			offers = append(offers, Offer{Entry: e, Foreign: true})
		}
	}
	c.described = described
	return offers, nil
}

// description is what a manifest states that is of use in an [Offer], or nothing.
type description struct {
	file           fs.FileInfo // the manifest's, or nil
	digest, blake3 shard.Digest
	count          int
}

func descriptionOf(m shard.Manifest) description {
	return description{digest: m.Digest, blake3: m.BLAKE3, count: len(m.Shards)}
}

// isOf reports whether d describes the file of e, whose digest may be either.
func (d description) isOf(e distfile.Entry) bool { return e.Digest == d.digest || e.Digest == d.blake3 }

// describeHeld describes e, which is held, and was described by before. The error matches
// [fs.ErrNotExist] if there is no manifest.
func (c *Catalog) describeHeld(e distfile.Entry, before description) (description, error) {
	f, err := c.store.Manifest(e.Version)
	if err != nil {
		return description{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return description{}, err
	}
	if before.file != nil && isSame(before.file, info) {
		if before.digest != (shard.Digest{}) && before.blake3 == (shard.Digest{}) { // it may come later
			before.blake3, _ = c.store.BLAKE3(e.Version)
		}
		return before, nil
	}
	m, err := shard.ParseManifest(f)
	if err != nil && !errors.Is(err, shard.ErrManifest) {
		return description{}, err
	}
	if err == nil {
		m.BLAKE3, _ = c.store.BLAKE3(e.Version)
	}
	d := descriptionOf(m) // nothing, from a bad one
	d.file = info
	return d, nil
}

// describeArriving describes e, which is arriving, and was described by before. The error
// matches [fs.ErrNotExist] if there is a draft without a manifest, or none.
func (c *Catalog) describeArriving(e distfile.Entry, before description) (description, error) {
	if v := c.board.Version(e.Version); v != nil && v.HasDigests() {
		return descriptionOf(v.Manifest), nil
	}
	// Between two fetches the description stays, also that of an earlier run.
	if before.isOf(e) {
		return before, nil
	}
	drafts, err := c.store.Drafts()
	for _, d := range drafts {
		if d.Version() == e.Version {
			m, err := d.Manifest()
			if errors.Is(err, shard.ErrManifest) {
				err = nil
			}
			m.BLAKE3, _ = d.BLAKE3()
			return descriptionOf(m), err
		}
	}
	return description{}, cmp.Or(err, fs.ErrNotExist)
}

// Usage returns the number and size of what is held, see [store.Store.Usage].
func (c *Catalog) Usage() (store.Usage, error) { return c.store.Usage() }

// Count returns the number of versions that are arriving, and of shards that are missing,
// see [relay.Board.Count].
func (c *Catalog) Count() (versions, missing int) { return c.board.Count() }

// A State is whether a version is held or arriving.
type State int

// The states.
const (
	Held     State = iota
	Waiting        // on offer before it is held, between two fetches
	Arriving       // being fetched
)

// An Item is a version in an [Inventory].
type Item struct {
	State State
	Entry distfile.Entry

	// Manifest is zero while the version is waiting, and if its file is missing or damaged. Text
	// is the digest of its text, or zero, too.
	Manifest shard.Manifest
	Text     shard.Digest

	// Extents is how much there is of each shard of an arriving version.
	Extents []relay.Extent

	// Numbers are those of the shards in the directory of a held version, in no order. One
	// that is there under two names is there twice.
	Numbers []int
}

// An Inventory is all that is here, for people to see.
type Inventory struct {
	// Versions are the newest ones, the newest first, and More is the number of others.
	Versions []Item
	More     int

	// Disk is the number and size of what is held.
	Disk store.Usage
}

// Inventory returns all that is here, and describes the newest versions, most at most.
func (c *Catalog) Inventory(most int) (Inventory, error) {
	arriving := c.board.Arriving()
	listed, _ := c.board.Listed()
	usage, err := c.store.Usage() // after the board
	if err != nil {
		return Inventory{}, err
	}
	all := make(map[shard.Version]func() Item)
	for _, e := range usage.Held {
		all[e.Version] = func() Item { return c.heldItem(e) }
	}
	for _, e := range listed {
		all[e.Version] = func() Item { return Item{State: Waiting, Entry: e} }
	}
	for _, v := range arriving {
		all[v.Entry.Version] = func() Item {
			item := Item{State: Arriving, Entry: v.Entry, Manifest: v.Manifest, Extents: slices.Collect(v.Extents())}
			if text, err := v.Text(); err == nil && v.HasDigests() {
				item.Text = sha256.Sum256(text)
			}
			return item
		}
	}
	newest := slices.SortedFunc(maps.Keys(all), func(a, b shard.Version) int { return cmp.Compare(b, a) })
	i := Inventory{Disk: usage, More: max(0, len(newest)-most)}
	for _, v := range newest[:len(newest)-i.More] {
		i.Versions = append(i.Versions, all[v]())
	}
	return i, nil
}

// Arrived returns the bytes that are here of each arriving version.
func (c *Catalog) Arrived() map[shard.Version]int64 {
	arrived := make(map[shard.Version]int64)
	for _, v := range c.board.Arriving() {
		for e := range v.Extents() {
			arrived[v.Entry.Version] += e.Bytes
		}
	}
	return arrived
}

// heldItem looks at the directory of e.
func (c *Catalog) heldItem(e distfile.Entry) Item {
	item := Item{State: Held, Entry: e}
	if f, err := c.store.Manifest(e.Version); err == nil {
		defer f.Close()
		text := sha256.New()
		if m, err := shard.ParseManifest(io.TeeReader(f, text)); err == nil {
			item.Manifest, item.Text = m, shard.Digest(text.Sum(nil))
		}
	}
	item.Numbers, _ = c.store.Shards(e.Version)
	return item
}
