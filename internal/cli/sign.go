package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/password"
)

// Names of systemd's credentials, in $CREDENTIALS_DIRECTORY.
const (
	keyCredential      = "sign-key"
	passwordCredential = "sign-key-password"
)

// Signing is the state of the flags of a command that signs.
type Signing struct {
	opts         *shardcast.SignOptions
	keyFile      string
	passwordFile string
}

// SignFlags add --sign-key, --password-file, --feed, --expires and --state-dir, which set o when they
// are loaded, see [Signing.Load].
func SignFlags(flags *pflag.FlagSet, o *shardcast.SignOptions) *Signing {
	s := &Signing{opts: o}
	flags.StringVar(&s.keyFile, "sign-key", "",
		"`FILE` of the private key that signs the versions, see keygen (default none)")
	Note(flags, "sign-key", "Without it systemd's credential sign-key is the key. It has to be given for each change "+
		"of a data directory whose versions are signed.")
	PasswordFlag(flags, &s.passwordFile)
	flags.StringVar(&o.Feed, "feed", "", "`NAME` of the signed list of versions (default the directory's)")
	Note(flags, "feed", "It is needed once, such as weights.example.org/llama, and belongs to the data directory then.")
	flags.Var((*Validity)(&o.Expires), "expires",
		"how long a signature is valid from now on, such as 7d, or never (default as before, 7d at first)")
	Note(flags, "expires", "It belongs to the data directory. Past it readers take nothing new, so that no "+
		"server can withhold newer versions from them for longer; each publication and 'sign' begin anew.")
	flags.StringVar(&o.StateDir, "state-dir", "",
		"`DIRECTORY` that remembers the latest signature (default ~/.local/state/shardcast)")
	Note(flags, "state-dir",
		"By it a copied or restored data directory is recognised. XDG_STATE_HOME moves the default.")
	Under(flags, Sign)
	return s
}

// PasswordFlag adds --password-file.
func PasswordFlag(flags *pflag.FlagSet, file *string) {
	flags.StringVar(file, "password-file", "", "`FILE` with the password of the private key (default the terminal)")
	Note(flags, "password-file", "Its first line counts. Without it systemd's credential sign-key-password does.")
}

// Load reads the key, if there is one, and asks the terminal for its password where no file has that.
func (s *Signing) Load(cmd *cobra.Command) error {
	file := s.keyFile
	if file == "" {
		file = credential(keyCredential)
	}
	if file == "" {
		err := Requires(cmd.Flags(), "sign-key", "password-file", "feed", "expires")
		s.opts.Feed, s.opts.Expires = "", 0 // which the environment may have
		return err
	}
	encrypted := false
	key, err := shardcast.ReadSignKey(file, func() (string, error) {
		encrypted = true
		return Password(cmd, s.passwordFile, false)
	})
	if encrypted {
		debug.FreeOSMemory() // a gigabyte
	}
	if err == nil && !encrypted {
		err = checkPrivate(file)
	}
	if err != nil {
		return fmt.Errorf("--sign-key: %w", err)
	}
	s.opts.Key = key
	return nil
}

// Key returns whether there is a key.
func (s *Signing) Key() bool { return s.opts.Key != nil }

// checkPrivate returns an error if users beside the owner and the group may read a key that is not
// encrypted.
func checkPrivate(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o007 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("others may read %s, which is not encrypted: run chmod 600 %s", file, file)
	}
	return nil
}

// credential returns the file of a credential of systemd, or nothing without one.
func credential(name string) string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return file
}

// Password returns the password of a key, from file, from systemd or from the terminal, where that of
// a new one is asked for twice.
func Password(cmd *cobra.Command, file string, isNew bool) (string, error) {
	if file == "" {
		file = credential(passwordCredential)
	}
	if file == "" {
		word, err := password.Ask(cmd.Context(), isNew)
		if errors.Is(err, password.ErrNoTerminal) {
			err = fmt.Errorf("%w: name the file of the password by --password-file", err)
		}
		return word, err
	}
	word, err := password.FromFile(file)
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	return word, nil
}

// day is what the unit d stands for.
const day = 24 * time.Hour

// parseDays reads a duration above 0 and up to 100 years with its unit, one of which is d.
func parseDays(text string) (time.Duration, error) {
	dur, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		if err == nil && !(n > 0 && n <= 36_500) {
			err = errors.New("out of range")
		}
		dur = time.Duration(math.Round(n * float64(day)))
	}
	if err != nil || dur <= 0 || dur > 36_500*day {
		return 0, errors.New("not a duration")
	}
	return dur, nil
}

// daysOf is the text of a duration.
func daysOf(dur time.Duration) string {
	switch {
	case dur == 0:
		return ""
	case dur%day == 0:
		return strconv.Itoa(int(dur/day)) + "d"
	}
	return dur.String()
}

// Validity is a flag's time for which a signature is valid: 7d, 12h, 90m, or never.
type Validity time.Duration

// Set reads the flag.
func (v *Validity) Set(text string) error {
	if text == "never" {
		*v = Validity(shardcast.NeverExpires)
		return nil
	}
	dur, err := parseDays(text)
	if err != nil || dur%time.Second != 0 {
		return errors.New("want a time in whole seconds such as 7d, 12h or 90m, or never")
	}
	*v = Validity(dur)
	return nil
}

// String returns the time.
func (v *Validity) String() string {
	if time.Duration(*v) == shardcast.NeverExpires {
		return "never"
	}
	return daysOf(time.Duration(*v))
}

// Type stands for the value in the help.
func (v *Validity) Type() string { return "TIME" }

// Interval is a flag's time between two events: 1d, 12h, 90m.
type Interval time.Duration

// Set reads the flag.
func (i *Interval) Set(text string) error {
	dur, err := parseDays(text)
	if err != nil {
		return errors.New("want a time such as 1d, 12h or 90m")
	}
	*i = Interval(dur)
	return nil
}

// String returns the time.
func (i *Interval) String() string { return daysOf(time.Duration(*i)) }

// Type stands for the value in the help.
func (i *Interval) Type() string { return "TIME" }
