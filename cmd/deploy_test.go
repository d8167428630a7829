package cmd_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDeployGivesExistingFlags checks the files in deploy, without their comments.
func TestDeployGivesExistingFlags(t *testing.T) {
	help := make(map[string]string)
	var all string // for files that name no command
	for _, words := range []string{
		"shardcast-origin", "shardcast-origin sign", "shardcast-middle", "shardcast-client",
	} {
		command, sub, _ := strings.Cut(words, " ")
		args := append(strings.Fields(sub), "--help")
		text, err := exec.Command(filepath.Join(binaries, command), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s --help: %v\n%s", words, err, text)
		}
		help[command] += string(text)
		all += string(text)
	}
	flag := regexp.MustCompile(`--[a-z][a-z-]*`)
	comment := regexp.MustCompile(`(?m)^\s*#.*$`)
	checked := 0
	err := filepath.WalkDir(filepath.Join("..", "deploy"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".md") || strings.HasPrefix(d.Name(), "Dockerfile") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := comment.ReplaceAllString(string(data), "")
		var known string
		for command, flags := range help {
			if strings.Contains(text, command) {
				known += flags
			}
		}
		if known == "" {
			known = all
		}
		for _, given := range flag.FindAllString(text, -1) {
			checked++
			if !regexp.MustCompile(given + `[ \n]`).MatchString(known) {
				t.Errorf("%s gives %s, which its commands do not have", path, given)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked == 0 {
		t.Error("the files give no flag")
	}
}
