package cli

import (
	"errors"
	"strconv"

	"github.com/spf13/pflag"
)

// Switch is a flag that is on, off, or neither: empty.
type Switch string

const (
	on  = "on"
	off = "off"
)

// Set reads the flag.
func (s *Switch) Set(text string) error {
	is, err := strconv.ParseBool(text)
	switch {
	case text == on || err == nil && is:
		*s = on
	case text == off || err == nil:
		*s = off
	default:
		return errors.New("want on or off")
	}
	return nil
}

// String returns on, off or nothing.
func (s *Switch) String() string { return string(*s) }

// Type is that of flags without a value in the help.
func (s *Switch) Type() string { return "bool" }

// Deltas are the flags that say whether deltas are made, and from how many versions.
type Deltas struct {
	flags *pflag.FlagSet
	made  Switch
	bases int
}

// DeltaFlags add --delta and --delta-bases of a command that publishes. With a value that is needed
// --delta is for a setting.
func DeltaFlags(flags *pflag.FlagSet, setting bool) *Deltas {
	d := &Deltas{flags: flags}
	if setting {
		flags.Var(&d.made, "delta",
			"`WORD`, on or off: whether to make deltas from earlier versions (default as before, off at first)")
		flags.Var((*Count)(&d.bases), "delta-bases",
			"newest versions to make deltas from, up to 64 (default as before, 1 at first)")
	} else {
		flags.Var(&d.made, "delta",
			"make a delta from the newest version, or --delta=off none (default as config says)")
		flags.Lookup("delta").NoOptDefVal = "true"
		flags.Var((*Count)(&d.bases), "delta-bases",
			"newest versions to make deltas from, up to 64 (default 1, or as config says)")
	}
	Suggest(flags, "delta", on, off)
	Note(flags, "delta", "A delta has what has changed, and is published with the new version unless it is "+
		"larger than half of that. Making it reads both versions once more.")
	Note(flags, "delta-bases", "It makes deltas as --delta does.")
	return d
}

// Bases returns from how many versions deltas are made: 0 if neither flag says it, and -1 for none.
// Where both do, the one on the command line counts more than one from the environment.
func (d *Deltas) Bases() int {
	if d.made == off && (Given(d.flags, "delta") || !Given(d.flags, "delta-bases")) {
		return -1
	}
	if d.made == on {
		return max(d.bases, 1)
	}
	return d.bases
}
