// Package report keeps measurements for people and for programs.
package report

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// A Report has a form for people; programs read its encoding in JSON.
type Report interface{ Markdown() string }

// Write writes r into the directory dir as base.md and base.json, and makes dir where
// it is missing.
func Write(dir, base string, r Report) error {
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
	return errors.Join(write(".md", r.Markdown()), write(".json", string(text)+"\n"))
}
