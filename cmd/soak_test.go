package cmd_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

const (
	// soakSize bounds the files of a soak, in bytes.
	soakSize = 40_000

	// soakDelay bounds the time from a file's appearance to a kill: by then the version
	// may be at any node, or at all.
	soakDelay = 100 * time.Millisecond
)

// setupSoak passes the measures of make soak to the script.
func setupSoak(env *testscript.Env) {
	for _, name := range []string{"VERSIONS", "KILLS", "SEED"} {
		env.Setenv(name, os.Getenv("SOAK_"+name))
	}
}

// soak makes files in DIR, w1.bin and so on, each when DATA lists the one before, and
// kills one of NAMEs after some of them.
func soak(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: soak DIR DATA VERSIONS KILLS [NAME...]")
	}
	versions, kills, names := countOf(ts, args[2:3]), countOf(ts, args[3:4]), args[4:]
	last := 0
	if text := ts.Getenv("last"); text != "" {
		last = countOf(ts, []string{text})
	}
	seed, err := strconv.ParseUint(ts.Getenv("SEED"), 10, 64)
	ts.Check(err)
	random := rand.New(rand.NewPCG(seed, uint64(last)))
	killed := make(map[int]bool)
	for _, i := range random.Perm(versions)[:min(kills, versions)] {
		killed[i] = true
	}
	begun := time.Now()
	for i := range versions {
		last++
		digest := appear(ts, random, filepath.Join(ts.MkAbs(args[0]), fmt.Sprintf("w%d.bin", last)))
		if killed[i] {
			name, delay := names[random.IntN(len(names))], time.Duration(random.Int64N(int64(soakDelay)))
			ts.Logf("kill %s %v after w%d.bin", name, delay, last)
			<-time.After(delay)
			halt(ts, false, []string{name, "KILL"})
			serverOf(ts, name).again()
		}
		listed(ts, filepath.Join(ts.MkAbs(args[1]), "distribution.txt"), digest)
	}
	ts.Setenv("last", strconv.Itoa(last))
	ts.Logf("%d versions and %d kills, seed %d, in %v", versions, len(killed), seed, time.Since(begun))
}

// listed waits until the distribution name lists digest.
func listed(ts *testscript.TestScript, name, digest string) {
	timeout := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), digest) {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			ts.Fatalf("%s does not list %s", name, digest)
		}
	}
}

// appear makes a file of random size and bytes, which gets its name when it is whole, and
// returns its digest.
func appear(ts *testscript.TestScript, random *rand.Rand, name string) string {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(random.Uint32())
	}
	data := make([]byte, random.IntN(soakSize))
	_, err := io.ReadFull(rand.NewChaCha8(seed), data)
	ts.Check(err)
	whole := filepath.Join(filepath.Dir(name), "."+filepath.Base(name))
	ts.Check(os.WriteFile(whole, data, 0o644))
	ts.Check(os.Rename(whole, name))
	return fmt.Sprintf("%x", sha256.Sum256(data))
}
