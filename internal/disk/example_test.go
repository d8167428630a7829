package disk_test

import (
	"fmt"
	"os"

	"github.com/shardcast/shardcast/internal/disk"
)

func ExampleWriteFile() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	if err := disk.WriteFile(root, "list.tmp", "list.txt", []byte("all of it\n"), 0o666); err != nil {
		fmt.Println(err)
		return
	}
	text, err := root.ReadFile("list.txt")
	fmt.Print(string(text), err)
	// Output:
	// all of it
	// <nil>
}
