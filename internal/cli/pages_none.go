//go:build !pages

package cli

import "github.com/spf13/cobra"

func addPages(*cobra.Command) {}
