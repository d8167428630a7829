// Package password reads the password of a key from a file or from the terminal. It refuses to know
// flags and keys. A terminal never shows what is typed, and shows it again afterwards, also when the
// program is told to end meanwhile.
package password

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// maxSize bounds the file of a password in bytes.
const maxSize = 4 << 10

// ErrNoTerminal means that there is no terminal to ask for a password.
var ErrNoTerminal = errors.New("the password of the key is missing, and there is no terminal to ask for it")

// FromFile returns the first line of a file, which must not be empty, and of at most 4 KiB.
func FromFile(name string) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // waits for no writer of a pipe
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(text) > maxSize {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxSize)
	}
	if err != nil {
		return "", err
	}
	line, _, _ := bytes.Cut(text, []byte{'\n'})
	word := strings.TrimSuffix(string(line), "\r")
	if word == "" {
		return "", fmt.Errorf("the first line of %s is empty", name)
	}
	return word, nil
}

// Ask asks the terminal for the password of a key, of a new one twice. The error matches
// [ErrNoTerminal], or is the cause of the end of ctx.
func Ask(ctx context.Context, isNew bool) (string, error) {
	tty := os.Stdin
	if !term.IsTerminal(int(tty.Fd())) {
		var err error
		if tty, err = os.OpenFile("/dev/tty", os.O_RDWR, 0); err != nil {
			return "", ErrNoTerminal
		}
		defer tty.Close()
	}
	word, err := ask(ctx, tty, "Password of the private key: ")
	if err != nil || !isNew {
		return word, err
	}
	if word == "" {
		return "", errors.New("the password is empty")
	}
	again, err := ask(ctx, tty, "The same once more: ")
	if err == nil && again != word {
		err = errors.New("the two passwords differ")
	}
	return word, err
}

// ask asks for one line. When ctx ends the terminal echoes again, and a read may go on.
func ask(ctx context.Context, tty *os.File, prompt string) (string, error) {
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	fmt.Fprint(os.Stderr, prompt)
	type answer struct {
		word []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		word, err := term.ReadPassword(fd)
		answered <- answer{word, err}
	}()
	select {
	case a := <-answered:
		fmt.Fprintln(os.Stderr)
		return string(a.word), a.err
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr)
		return "", errors.Join(context.Cause(ctx), term.Restore(fd, before))
	}
}
