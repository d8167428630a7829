package trust_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardcast/shardcast/internal/release"
	"github.com/shardcast/shardcast/internal/trust"
)

func ExampleKeeper() {
	private, err := release.GenerateKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	keeper, err := trust.Open(trust.Options{
		Keys: []release.PublicKey{private.Public()}, Feed: "weights.example.org/llama",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(errors.Is(keeper.Check(), trust.ErrNotTrusted))
	_, err = keeper.Offer(context.Background(), "http://relay.example.org:8000", []byte("v1: unsigned\n"))
	fmt.Println(errors.Is(err, trust.ErrNotTrusted))
	// Output:
	// true
	// true
}
