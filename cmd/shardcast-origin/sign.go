package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shardcast/shardcast"
	"github.com/shardcast/shardcast/internal/cli"
)

// signCommand returns the command that signs the versions of a data directory.
func (c *command) signCommand() *cobra.Command {
	var renewal shardcast.Renewal
	var every time.Duration
	sign := &cobra.Command{
		Use:   "sign [VERSION...]",
		Short: "Sign the versions of a data directory anew",
		Long: `sign renews the signature of the versions that the last one lists, less those
that are gone, so that readers see that nothing newer is withheld from them.
Each VERSION is taken in after all its bytes were read; with --adopt all of a
data directory are that has no signature yet. broadcast signs by itself.`,
		Example: `  shardcast-origin sign --data-dir ./data --sign-key publisher.key --every 1d
  shardcast-origin sign v7 --data-dir ./data --sign-key publisher.key
  shardcast-origin sign --adopt --sign-key publisher.key --feed llama`,
		Args: func(_ *cobra.Command, args []string) error {
			if renewal.Adopt && len(args) > 0 {
				return fmt.Errorf("--adopt takes in all versions, and %d were given", len(args))
			}
			return nil
		},
	}
	flags := sign.Flags()
	flags.BoolVar(&renewal.Adopt, "adopt", false, "take in all versions of a data directory without a signature")
	flags.BoolVar(&renewal.NewEpoch, "new-epoch", false,
		"have readers begin anew with this signature, as for a copied or restored data directory")
	flags.Var((*cli.Interval)(&every), "every",
		"renew the signature each time this has passed, such as 1d, until SIGTERM (default once)")
	var signing shardcast.SignOptions
	flags.StringArrayVar(&signing.PreviousKeys, "previous-key", nil,
		"public `KEY`, or file of one, whose signature is taken over by another key; may be repeated")
	for _, name := range []string{"adopt", "new-epoch", "every"} {
		cli.Env(flags, name, "")
	}
	load := cli.SignFlags(flags, &signing)
	cli.DataTerms(sign)
	sign.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load.Load(cmd); err != nil {
			return err
		}
		if !load.Key() {
			return cli.Usage(errors.New("sign needs a key: name its file by --sign-key; 'keygen' makes one"))
		}
		renewal.Versions = args
		return c.sign(cmd, signing, renewal, every)
	}
	return sign
}

// sign signs once, or again and again, and prints what is signed.
func (c *command) sign(
	cmd *cobra.Command, signing shardcast.SignOptions, renewal shardcast.Renewal, every time.Duration,
) error {
	return c.changing(cmd, signing, func(o *shardcast.Origin) error {
		if every != 0 {
			return o.KeepSigned(cmd.Context(), renewal, every)
		}
		r, err := o.Sign(cmd.Context(), renewal)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(r.Versions, " "))
		return err
	})
}

// keygenCommand returns the command that makes keys.
func (c *command) keygenCommand() *cobra.Command {
	var file, passwordFile, feed string
	var noPassword bool
	keygen := &cobra.Command{
		Use:   "keygen --key-file FILE",
		Short: "Make a pair of keys to sign versions with",
		Long: `keygen makes a private key of minisign in FILE, encrypted by a password, and the
public one beside it, with .pub in place of .key. It replaces no file. On stdout
it prints the flags for those that read: with --feed both that belong together.`,
		Example: `  shardcast-origin keygen --key-file publisher.key --feed llama`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return cli.Usage(errors.New("keygen needs the name of the new file: --key-file publisher.key"))
			}
			if feed != "" {
				if err := shardcast.CheckFeed(feed); err != nil {
					return err
				}
			}
			password := ""
			if !noPassword {
				var err error
				if password, err = cli.Password(cmd, passwordFile, true); err != nil {
					return fmt.Errorf("%w; or --no-password", err)
				}
			}
			return c.keygen(cmd, file, password, feed)
		},
	}
	flags := keygen.Flags()
	flags.StringVar(&file, "key-file", "", "`FILE` of the new private key")
	cli.PasswordFlag(flags, &passwordFile)
	flags.BoolVar(&noPassword, "no-password", false, "do not encrypt the private key")
	flags.StringVar(&feed, "feed", "", "`NAME` of the list of versions, for the flags that are printed (default none)")
	cli.Under(flags, cli.Sign)
	return keygen
}

// keygen makes the keys and prints the flags of readers.
func (c *command) keygen(cmd *cobra.Command, file, password, feed string) error {
	key, public, err := shardcast.GenerateSignKey(file, password)
	if err != nil {
		return err
	}
	if cli.LogsJSON(cmd) {
		c.logger(cli.Stderr(cmd)).Info("keys made", "private", file, "public", public)
	} else {
		fmt.Fprintf(cmd.ErrOrStderr(), "private key, which is yours alone: %s\npublic key: %s\n", file, public)
	}
	line := "--key " + key.Public()
	if feed != "" {
		line += " --feed " + feed
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}
