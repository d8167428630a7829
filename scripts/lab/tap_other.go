//go:build !linux

package main

import (
	"errors"
	"os"
)

// tap fails: the lab needs Linux.
func tap(string, string) (*os.File, error) { return nil, errors.ErrUnsupported }
