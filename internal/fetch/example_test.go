package fetch_test

import (
	"fmt"

	"github.com/shardcast/shardcast/internal/fetch"
)

func ExampleParseAddress() {
	for _, address := range []string{
		"192.168.1.100", "cache.example:9000", "::1", "https://example.com/weights/",
		"ftp://example.com",
	} {
		u, err := fetch.ParseAddress(address, fetch.DefaultPort)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(u)
	}
	// Output:
	// http://192.168.1.100:8000
	// http://cache.example:9000
	// http://[::1]:8000
	// https://example.com/weights
	// "ftp://example.com" is not the address of a server: the scheme is not http or https, nor dns+ before one
}
