// Package report keeps what was measured.
package report

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// A Report is one for people and for programs: it is also encoded in JSON.
type Report interface {
	Markdown() string

	// Plot is an SVG, or empty.
	Plot() string
}

// Write writes r into the directory dir, which is made, as base with .md, .json and, if
// there is a plot, .svg, which Markdown then shows after its heading, described by alt.
func Write(dir, base, alt string, r Report) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	write := func(ext, text string) error {
		return os.WriteFile(filepath.Join(dir, base+ext), []byte(text), 0o644)
	}
	markdown, picture := r.Markdown(), r.Plot()
	if picture != "" {
		markdown = strings.Replace(markdown, "\n\n", "\n\n!["+alt+"]("+base+".svg)\n\n", 1)
		err = write(".svg", picture)
	}
	return errors.Join(err, write(".md", markdown), write(".json", string(text)+"\n"))
}
