package disk

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// ReadFile returns the content of name in root, and an error that names it if it is no
// regular file, or has more than most bytes. The error matches [io/fs.ErrNotExist] if there
// is none. A pipe does not hold it up.
func ReadFile(root *os.Root, name string, most int64) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is not a regular file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("read %s: it has more than %d bytes", name, most)
	}
	return text, err
}
