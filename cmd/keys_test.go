package cmd_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shardcast/shardcast/internal/distfile"
	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/shard"
)

// same waits until two files have the same content.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: same FILE FILE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		one, failed := os.ReadFile(ts.MkAbs(args[0]))
		other, err := os.ReadFile(ts.MkAbs(args[1]))
		if failed == nil && err == nil && bytes.Equal(one, other) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("%s and %s do not become the same: %q, and %q", args[0], args[1], one, other)
		}
	}
}

// keypair makes NAME.key and NAME.pub, and sets NAME to the public key.
func keypair(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keypair NAME")
	}
	key, err := release.GenerateKey()
	ts.Check(err)
	_, err = release.WriteKeys(ts.MkAbs(args[0]+".key"), key, "")
	ts.Check(err)
	ts.Setenv(args[0], key.Public().String())
}

// forge signs the versions of a data directory as an adversary, or a publisher with a wrong clock,
// may do it: release.txt there lists those of distribution.txt.
//
//	feed=NAME          of the release, else test
//	epoch=N, seq=N     else 1, and one more than that of the last forge
//	issued=DUR         from now, else 0
//	expires=DUR        from now, or never, else 168h
//	withdrawn=VERSION  with that line
//	without=VERSION    without that line
//	as=VERSION:OTHER   VERSION has the line of OTHER
//	size=VERSION:N     VERSION has that size
//	to=FILE            in place of release.txt
func forge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: forge KEY DIR OPTION=VALUE...")
	}
	key, err := release.ReadPrivateKey(ts.MkAbs(args[0]+".key"), func() (string, error) {
		return "", errors.New("no password")
	})
	ts.Check(err)
	dir := ts.MkAbs(args[1])
	w := worldOf(ts)
	w.forged++
	now := time.Now().UTC().Truncate(time.Second)
	r := release.Release{Feed: "test", Epoch: 1, Seq: w.forged, Issued: now, Expires: now.Add(7 * 24 * time.Hour)}
	r.Entries = describedIn(ts, dir)
	to := filepath.Join(dir, release.FileName)
	for _, option := range args[2:] {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "to":
			to = ts.MkAbs(value)
		case "feed":
			r.Feed = value
		case "epoch", "seq":
			n, err := strconv.ParseUint(value, 10, 64)
			ts.Check(err)
			if name == "epoch" {
				r.Epoch = n
			} else {
				r.Seq = n
			}
		case "issued", "expires":
			at := time.Time{}
			if value != "never" {
				dur, err := time.ParseDuration(value)
				ts.Check(err)
				at = now.Add(dur)
			}
			if name == "issued" {
				r.Issued = at
			} else {
				r.Expires = at
			}
		default:
			r.Entries = changed(ts, r.Entries, name, value)
		}
	}
	signed, err := r.Sign(key)
	ts.Check(err)
	ts.Check(os.WriteFile(to+".new", signed.Bytes(), 0o600))
	ts.Check(os.Rename(to+".new", to))
}

// changed returns entries with one change of a forgery.
func changed(ts *testscript.TestScript, entries []release.Entry, name, value string) []release.Entry {
	text, other, _ := strings.Cut(value, ":")
	v, err := shard.ParseVersion(text)
	ts.Check(err)
	i := slices.IndexFunc(entries, func(e release.Entry) bool { return e.Version == v })
	if name == "withdrawn" && i < 0 {
		entries = append(entries, release.Entry{Version: v})
		slices.SortFunc(entries, func(a, b release.Entry) int { return int(a.Version) - int(b.Version) })
		i = slices.IndexFunc(entries, func(e release.Entry) bool { return e.Version == v })
	}
	if i < 0 {
		ts.Fatalf("there is no %s", v)
	}
	switch name {
	case "withdrawn":
		entries[i] = release.Entry{Version: v, Withdrawn: true}
	case "without":
		entries = slices.Delete(entries, i, i+1)
	case "as":
		o, err := shard.ParseVersion(other)
		ts.Check(err)
		from := entries[slices.IndexFunc(entries, func(e release.Entry) bool { return e.Version == o })]
		from.Version = v
		entries[i] = from
	case "size":
		entries[i].Size, err = strconv.ParseInt(other, 10, 64)
		ts.Check(err)
	default:
		ts.Fatalf("unknown option %s", name)
	}
	return entries
}

// describedIn returns the lines of the versions in a data directory.
func describedIn(ts *testscript.TestScript, dir string) (entries []release.Entry) {
	list, err := os.Open(filepath.Join(dir, distfile.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ts.Check(err)
	defer list.Close()
	listed, _, err := distfile.Parse(list)
	ts.Check(err)
	for _, e := range listed {
		text, err := os.ReadFile(filepath.Join(dir, e.Version.String(), shard.ManifestName))
		ts.Check(err)
		m, err := shard.ParseManifest(bytes.NewReader(text))
		if err != nil {
			ts.Fatalf("%s: %v", e.Version, err)
		}
		entries = append(entries, release.Entry{
			Version: e.Version, Digest: m.Digest, Size: m.Size, Manifest: sha256.Sum256(text),
		})
	}
	return entries
}

// spoil changes one byte of the line of a file that begins with a text.
func spoil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: spoil FILE LINE")
	}
	number, err := strconv.Atoi(args[1])
	ts.Check(err)
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	lines := bytes.SplitAfter(text, []byte{'\n'})
	if number < 0 {
		number += len(lines) // the last one is empty
	}
	line := lines[number-1]
	at := len(line) / 2
	if line[at] == 'A' {
		line[at] = 'B'
	} else {
		line[at] = 'A'
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.Join(lines, nil), 0o600))
	ts.Logf("%s", fmt.Sprintf("line %d is %q", number, line))
}
