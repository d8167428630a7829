package cmd_test

import (
	"bytes"
	"context"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
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
