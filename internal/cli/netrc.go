package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime"
	"strings"
	"syscall"
)

// maxNetrc bounds a file of credentials in bytes.
const maxNetrc = 1 << 20

// Netrc is a flag's file of names and passwords, in the format of netrc(5): machine, login
// and password. A machine is a host, or host:port. The entry default, accounts and macros do
// not count.
type Netrc struct {
	credentials *map[string]*url.Userinfo // receives what the file has, by machine
	file        string
}

// NewNetrc returns a flag that sets credentials.
func NewNetrc(credentials *map[string]*url.Userinfo) *Netrc { return &Netrc{credentials: credentials} }

// Set reads the file, which its owner alone may read.
func (n *Netrc) Set(name string) error {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // waits for no writer of a pipe
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows":
		return fmt.Errorf("others may read it: run chmod 600 %s", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxNetrc))
	if err != nil {
		return err
	}
	credentials, err := parseNetrc(string(text))
	if err != nil {
		return err
	}
	*n.credentials, n.file = credentials, name
	return nil
}

// parseNetrc returns the names and passwords by machine. No error has any of them.
func parseNetrc(text string) (map[string]*url.Userinfo, error) {
	credentials := make(map[string]*url.Userinfo)
	var machine, login, password string
	add := func() {
		if machine != "" && credentials[machine] == nil { // the first entry counts
			credentials[machine] = url.UserPassword(login, password)
		}
		machine, login, password = "", "", ""
	}
	before, _, _ := strings.Cut(text, "macdef")
	var words []string
	for line := range strings.Lines(before) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			words = append(words, strings.Fields(line)...)
		}
	}
	for i := 0; i < len(words); i++ {
		if words[i] == "default" {
			add()
			continue
		}
		if i+1 == len(words) {
			return nil, errors.New("its last word lacks a value")
		}
		value := words[i+1]
		switch words[i] {
		case "machine":
			add()
			machine = strings.ToLower(value)
		case "login":
			login = value
		case "password":
			password = value
		case "account":
		default:
			return nil, errors.New("want machine HOST login NAME password PASSWORD")
		}
		i++
	}
	add()
	if len(credentials) == 0 {
		return nil, errors.New("it names no machine: want machine HOST login NAME password PASSWORD")
	}
	return credentials, nil
}

// String returns the file's name.
func (n *Netrc) String() string { return n.file }

// Type stands for the value in the help.
func (n *Netrc) Type() string { return "FILE" }
