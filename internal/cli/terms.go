package cli

import "github.com/spf13/cobra"

// Sections of the manual that a command adds terms to.
const (
	Environment = "ENVIRONMENT"
	Files       = "FILES"
)

// AddTerms adds terms to a section of the manual of cmd, each followed by its text.
func AddTerms(cmd *cobra.Command, section string, pairs ...string) {
	if cmd.Annotations == nil {
		cmd.Annotations = make(map[string]string)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		cmd.Annotations[section] += pairs[i] + "\t" + pairs[i+1] + "\n"
	}
}

// ServerTerms adds the terms of an origin or middle.
func ServerTerms(cmd *cobra.Command) {
	AddTerms(cmd, Environment,
		"NOTIFY_SOCKET, WATCHDOG_USEC", "systemd sets them; the server reports there that it listens, lives and stops.")
	DataTerms(cmd)
}

// DataTerms adds the files of a data directory.
func DataTerms(cmd *cobra.Command) {
	AddTerms(cmd, Files,
		"DIRECTORY/distribution.txt", "The versions and the digests of their files.",
		"DIRECTORY/v1/manifest.json", "Sizes and digests of version v1.",
		"DIRECTORY/v1/shard_001.bin", "Its first shard.",
		"DIRECTORY/v1/SHA256SUMS", "The digests of its shards, for sha256sum -c.",
		"DIRECTORY/v1/BLAKE3", "The BLAKE3 of the version, where it is known.",
		"DIRECTORY/.shardcast", "Locks, the version counter and arriving shards, which are never served.")
}

// FetchTerms adds the terms of a command that fetches from servers.
func FetchTerms(cmd *cobra.Command) {
	AddTerms(cmd, Environment,
		"SHARDCAST_HTTP_PORT", "The port of servers whose address has none, 8000 without it.",
		"HTTP_PROXY, HTTPS_PROXY, NO_PROXY", "Proxies to fetch through, and servers to fetch from directly.")
}
