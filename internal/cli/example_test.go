package cli_test

import (
	"fmt"

	"github.com/shardcast/shardcast/internal/cli"
)

func ExampleParseList() {
	for _, text := range []string{
		"192.168.1.100,192.168.1.101", "192.168.1.100 192.168.1.101",
		`("192.168.1.100" "192.168.1.101")`,
	} {
		list, err := cli.ParseList(text)
		fmt.Println(list, err)
	}
	// Output:
	// [192.168.1.100 192.168.1.101] <nil>
	// [192.168.1.100 192.168.1.101] <nil>
	// [192.168.1.100 192.168.1.101] <nil>
}
