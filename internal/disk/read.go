package disk

import (
	"fmt"
	"io"
	"os"
)

// ReadFile returns the content of name in root, which it opens as [OpenRegular] does, and an
// error that names it if it has more than most bytes.
func ReadFile(root *os.Root, name string, most int64) ([]byte, error) {
	f, err := OpenRegular(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("read %s: it has more than %d bytes", name, most)
	}
	return text, err
}
