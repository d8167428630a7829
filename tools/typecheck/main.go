// Typecheck checks the types of all that the commands, the library and their tests consist of on another system, such
// as darwin. It reads source and compiles nothing, as go vet for that system would, so it takes a tenth of the time.
package main

import (
	"fmt"
	"os"

	"golang.org/x/tools/go/packages"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage, in tools: go run ./typecheck GOOS")
		os.Exit(2)
	}
	loaded, err := packages.Load(&packages.Config{
		Mode:  packages.LoadAllSyntax,
		Dir:   "..",
		Env:   append(os.Environ(), "GOOS="+os.Args[1], "CGO_ENABLED=0"),
		Tests: true,
	}, "./...")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if packages.PrintErrors(loaded) > 0 {
		os.Exit(1)
	}
}
