package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

// pythonNames are the variables of the Python package, and of the time before there was a
// rule. Every other flag has the variable of [variable]'s rule.
var pythonNames = map[string]string{
	"servers":       "IP_ADDR_LIST",
	"upstream":      "IP_ADDR_LIST",
	"port":          "SHARDCAST_HTTP_PORT",
	"max-versions":  "SHARDCAST_MAX_DISTRIBUTION_FOLDERS",
	"timeout":       "SHARDCAST_HTTP_TIMEOUT",
	"concurrency":   "SHARDCAST_MAX_CONCURRENT_DOWNLOADS",
	"attempts":      "SHARDCAST_RETRY_ATTEMPTS",
	"fast-attempts": "SHARDCAST_FAST_RETRY_ATTEMPTS",
	"fast-interval": "SHARDCAST_FAST_RETRY_INTERVAL",
	"slow-interval": "SHARDCAST_SLOW_RETRY_INTERVAL",
}

// Env has the environment variable of the flag name be another than the rule says, or with
// an empty variable none. A flag that selects an action (--list) has none: its variable would
// change every command of a shell or service, and follow's hooks have SHARDCAST_VERSION.
func Env(flags *pflag.FlagSet, name, variable string) {
	annotate(flags, name, envAnnotation, variable)
}

// variable returns the environment variable that sets flag where the command line does not:
// that of the Python package where it has one, else SHARDCAST_ and the flag's name in
// capitals, such as SHARDCAST_DATA_DIR for --data-dir. It is empty if there is none.
func variable(flag *pflag.Flag) string {
	if own, ok := flag.Annotations[envAnnotation]; ok {
		return own[0]
	}
	if flag.Name == "help" {
		return ""
	}
	if name, ok := pythonNames[flag.Name]; ok {
		return name
	}
	return "SHARDCAST_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
}

// applyEnv sets the flags that the command line does not have from the environment. An
// empty variable is as good as none.
func applyEnv(flags *pflag.FlagSet) error {
	var err error
	flags.VisitAll(func(flag *pflag.Flag) {
		name := variable(flag)
		if flag.Changed || name == "" || os.Getenv(name) == "" {
			return
		}
		if bad := flags.Set(flag.Name, os.Getenv(name)); bad != nil {
			err = errors.Join(err, invalid(bad, "environment variable "+name))
			return
		}
		annotate(flags, flag.Name, fromEnvAnnotation, name)
	})
	return err
}

// Given is true if the command line has the flag name. What only the environment says is no
// wish of the caller's: an environment serves several commands.
func Given(flags *pflag.FlagSet, name string) bool {
	flag := flags.Lookup(name)
	return flag != nil && flag.Changed && annotation(flag, fromEnvAnnotation) == ""
}

// Requires returns an error, as of [Usage], if the command line has one of names and needed
// is not set.
func Requires(flags *pflag.FlagSet, needed string, names ...string) error {
	if flag := flags.Lookup(needed); flag.Value.String() != flag.DefValue {
		return nil
	}
	for _, name := range names {
		if Given(flags, name) {
			return Usage(fmt.Errorf("--%s has no effect without --%s", name, needed))
		}
	}
	return nil
}

// invalid makes err, which setting a flag returned, name source, a flag or variable. Its
// text has the value, but not that of servers, which may hold a password.
func invalid(err error, source string) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return Usage(fmt.Errorf("%s: %w", source, err))
	}
	cause := errors.Unwrap(bad)
	if _, ours := bad.GetFlag().Value.(*Switch); !ours && bad.GetFlag().Value.Type() == "bool" {
		cause = errors.New("want 1, 0, true or false")
	}
	if _, secret := bad.GetFlag().Value.(*Addresses); secret {
		return Usage(fmt.Errorf("%s: %w", source, cause))
	}
	return Usage(fmt.Errorf("%s %.80q: %w", source, bad.GetValue(), cause))
}
