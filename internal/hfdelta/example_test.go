package hfdelta_test

import (
	"fmt"

	"github.com/shardcast/shardcast/internal/hfdelta"
)

func ExampleParse() {
	index := `{"metadata": {"version": 7, "base_version": "000006", "delta_encoding": "xor"}, "weight_map": {}}`
	fmt.Println(hfdelta.Parse([]byte(index)))
	// Output: 7 6 <nil>
}
