package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/shardcast/shardcast/internal/cli"
)

func TestTheReferenceHasTheFlagsUnderTheirHeadings(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference.md")
	require.NoError(t, err)
	flags := cli.Reference(newCommand())
	if !strings.Contains(string(text), flags) {
		t.Error("docs/reference.md is stale: run make reference")
	}
	assert.NotContains(t, flags, "**Flags**", "a flag has no heading")
}
