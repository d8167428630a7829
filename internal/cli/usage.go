package cli

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shardcast/shardcast"
)

// usageError is a mistake on the command line or in the environment.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage makes err an error of the caller of the command, with exit code 2.
func Usage(err error) error { return usageError{err} }

// flagError makes err, which reading the command line of cmd returned, a sentence that names
// the flag, and for one that cmd does not have similar ones.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		return Usage(fmt.Errorf("%w%s", err, otherFlags(cmd, unknown.GetSpecifiedName())))
	}
	var bad *pflag.InvalidValueError
	if errors.As(err, &bad) {
		return invalid(err, "--"+bad.GetFlag().Name)
	}
	return Usage(err)
}

// optionFlags are the flags of the library's options that the library checks.
var optionFlags = map[string]string{
	"Servers": "servers", "Version": "version", "From": "from", "Template": "output-template", "Marker": "marker",
	"Link": "link", "SkipStale": "skip-stale", "MaxVersions": "max-versions", "MaxChain": "max-chain",
	"DeltaBases": "delta-bases", "Watch.DeltaBases": "delta-bases", "Watch.Dir": "watch",
	"Watch.Glob": "watch-glob", "Watch.Marker": "watch-marker", "Watch.Depth": "watch-depth",
	"Watch.LinksBelow": "links-below", "Watch.Labels": "label", "TLS.CertFile": "tls-cert",
	"TLS.KeyFile": "tls-key", "TLS.ClientCAFile": "client-ca", "Access.TokensFile": "read-tokens",
	"Access.AdminAddr": "admin-addr", "Web.CORS": "cors", "Web.AllowHosts": "allow-host",
	"Congestion": "congestion", "Sign.Feed": "feed", "Sign.Expires": "expires",
	"Sign.PreviousKeys": "previous-key", "Key": "key", "Interval": "every", "Trust.Keys": "key",
	"Trust.Feed": "feed", "Trust.StateDir": "state-dir", "Run": "run", "Number": "number", "After": "after",
	"Lineage": "lineage", "Watch.Run": "run", "Watch.Lineage": "lineage", "Fetch.CAFile": "ca-file",
	"Fetch.CertFile": "cert", "Fetch.KeyFile": "key-pem", "Fetch.TokenFile": "token-file",
	"Swarm.Port": "swarm-port",
}

// optionError has err, an error of the library's options, name the flag of cmd in place of the
// option.
func optionError(cmd *cobra.Command, err error) string {
	text := strings.TrimPrefix(err.Error(), shardcast.ErrOptions.Error()+": ")
	option, reason, _ := strings.Cut(text, ": ")
	name := optionFlags[option]
	if option == "Servers" && cmd.Flags().Lookup(name) == nil {
		name = "upstream"
	}
	switch flag := cmd.Flags().Lookup(name); {
	case flag == nil:
		return text
	case annotation(flag, fromEnvAnnotation) != "":
		return "environment variable " + variable(flag) + ": " + reason
	default:
		return "--" + name + ": " + reason
	}
}

// synonyms are flags whose names other commands, or other programs, use for one of ours.
var synonyms = map[string][]string{
	"servers":     {"upstream", "upstreams", "server", "origin"},
	"upstream":    {"servers", "server", "origin"},
	"output-file": {"file", "out"},
	"host":        {"listen", "bind", "address"},
	"log-level":   {"verbose", "debug", "quiet"},
}

// otherFlags says which flag of cmd may be meant by name, which other command has it or has this name.
func otherFlags(cmd *cobra.Command, name string) string {
	similar := cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			similar.AddCommand(&cobra.Command{
				Use: flag.Name, SuggestFor: synonyms[flag.Name], Run: func(*cobra.Command, []string) {},
			})
		}
	})
	for _, other := range cmd.Root().Commands() {
		if other.Name() == name {
			return fmt.Sprintf("; run '%s'", other.CommandPath())
		}
	}
	if all := similar.SuggestionsFor(name); len(all) > 0 {
		return meant("--", slices.Compact(all)) // one may be similar, and a synonym
	}
	for _, other := range append([]*cobra.Command{cmd.Root()}, cmd.Root().Commands()...) {
		if other.Flags().Lookup(name) != nil {
			return fmt.Sprintf("; it is a flag of '%s'", other.CommandPath())
		}
	}
	return ""
}

// argumentsError makes err, which checking the arguments of cmd returned, name similar
// commands.
func argumentsError(cmd *cobra.Command, given []string, err error) error {
	if len(given) == 0 {
		return Usage(err)
	}
	if !cmd.HasAvailableSubCommands() {
		if cmd.Use == cmd.Name() {
			err = fmt.Errorf("unexpected argument %.80q: '%s' takes none%s", given[0], cmd.CommandPath(),
				place(cmd, given[0]))
		}
		return Usage(err)
	}
	cmd.SuggestionsMinimumDistance = 2
	if similar := cmd.SuggestionsFor(given[0]); len(similar) > 0 {
		return Usage(fmt.Errorf("%w%s", err, meant("", similar)))
	}
	return Usage(fmt.Errorf("%w%s", err, place(cmd, given[0])))
}

// isVersion matches v3, latest, and labels.
var isVersion = regexp.MustCompile(`^(v\d+|latest|.+=.*)$`)

// place asks whether word, which no command of cmd has as its name, belongs behind one of its flags,
// or behind broadcast.
func place(cmd *cobra.Command, word string) string {
	has := func(flag string) bool { return cmd.Flags().Lookup(flag) != nil }
	_, missing := os.Stat(word)
	broadcast, _, _ := cmd.Find([]string{"broadcast"})
	isServer := missing != nil && strings.ContainsAny(word, ".:")
	switch {
	case has("version") && isVersion.MatchString(word):
		return meant("--version ", []string{word})
	case has("servers") && isServer:
		return meant("--servers ", []string{word})
	case has("upstream") && isServer:
		return meant("--upstream ", []string{word})
	case broadcast != cmd && missing == nil:
		return meant(broadcast.CommandPath()+" ", []string{word})
	}
	return ""
}

// meant asks whether one of names, each after mark, is meant.
func meant(mark string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; did you mean " + mark + strings.Join(names, " or "+mark) + "?"
}
