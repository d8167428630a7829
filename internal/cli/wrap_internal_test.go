package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRowsFitEveryTerminal(t *testing.T) {
	const text = "longest silence of a server, in seconds (env" + space + "TIMEOUT) (default" + space + "30)"
	for width := 20; width <= maxWidth; width++ {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			var b strings.Builder
			writeRow(&b, "--a SECONDS", text, textColumn, width)
			for line := range strings.Lines(b.String()) {
				limit := max(width, textColumn/3+len("(env TIMEOUT)")) // the longest word needs as much
				assert.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), limit, line)
			}
			all := strings.Join(strings.Fields(b.String()), " ")
			assert.Equal(t, "--a SECONDS "+strings.ReplaceAll(text, space, " "), all)
			assert.Contains(t, b.String(), "(env TIMEOUT)", "words that belong together")
		})
	}
}
