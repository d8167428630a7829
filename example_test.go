package shardcast_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shardcast/shardcast"
)

// temporary returns a directory with the file weights.bin in it, and a function that
// removes it.
func temporary() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "shardcast")
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "weights.bin"), []byte("a lot of numbers"), 0o600); err != nil {
		panic(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}

func Example() {
	dir, remove := temporary()
	defer remove()

	// Without options it is port 8000; -1 is any free port.
	err := shardcast.Initialize(filepath.Join(dir, "data"), shardcast.OriginOptions{Port: -1})
	fmt.Println(err)
	version, err := shardcast.Broadcast(filepath.Join(dir, "weights.bin"))
	fmt.Println(version, err)
	err = shardcast.Shutdown()
	fmt.Println(err)
	// Output:
	// <nil>
	// v1 <nil>
	// <nil>
}

func ExampleOrigin_Broadcast_signed() {
	dir, remove := temporary() // with the file weights.bin in it
	defer remove()

	key, _, err := shardcast.GenerateSignKey(filepath.Join(dir, "publisher.key"), "") // without a password
	if err != nil {
		panic(err)
	}
	origin, err := shardcast.NewOrigin(shardcast.OriginOptions{
		DataDir: filepath.Join(dir, "data"),
		Sign: shardcast.SignOptions{
			Key: key, Feed: "weights.example.org/llama", StateDir: filepath.Join(dir, "state"),
		},
	})
	if err != nil {
		panic(err)
	}
	defer func() { _ = origin.Close() }()
	version, err := origin.Broadcast(context.Background(), filepath.Join(dir, "weights.bin"))
	fmt.Println(version, err)
	release, err := shardcast.HeldRelease(filepath.Join(dir, "data"))
	fmt.Println(release.Feed, release.Epoch, release.Versions, err)
	// Readers have key.Public().
	fmt.Println(key.Public()[:2])
	// Output:
	// v1 <nil>
	// weights.example.org/llama 1 [v1] <nil>
	// RW
}

func ExampleOrigin_Serve_watch() {
	dir, remove := temporary() // with the file weights.bin in it
	defer remove()
	ctx, stop := context.WithCancel(context.Background())

	origin, err := shardcast.NewOrigin(shardcast.OriginOptions{
		DataDir: filepath.Join(dir, "data"), Host: "127.0.0.1", Port: -1,
		Watch: shardcast.WatchOptions{Dir: dir, Glob: "*.bin", Settle: 10 * time.Millisecond},
	})
	if err != nil {
		panic(err)
	}
	ln, err := origin.Listen()
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- origin.Serve(ctx, ln) }()

	client, err := shardcast.NewClient(
		shardcast.ClientOptions{Servers: []string{ln.Addr().String()}, Wait: time.Minute},
	)
	if err != nil {
		panic(err)
	}
	got, err := client.Download(ctx, shardcast.Latest, filepath.Join(dir, "got"))
	fmt.Println(got.Version.Name, got.Version.File, got.Version.Size, err)

	stop()
	fmt.Println(client.Close(), <-ended, origin.Close())
	// Output:
	// v1 weights.bin 16 <nil>
	// <nil> <nil> <nil>
}

func ExampleNewClient() {
	dir, remove := temporary()
	defer remove()
	ctx, stop := context.WithCancel(context.Background())

	origin, err := shardcast.NewOrigin(
		shardcast.OriginOptions{DataDir: filepath.Join(dir, "data"), Host: "127.0.0.1", Port: -1},
	)
	if err != nil {
		panic(err)
	}
	ln, err := origin.Listen()
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- origin.Serve(ctx, ln) }()
	if _, err := origin.Broadcast(ctx, filepath.Join(dir, "weights.bin")); err != nil {
		panic(err)
	}

	client, err := shardcast.NewClient(shardcast.ClientOptions{Servers: []string{ln.Addr().String()}})
	if err != nil {
		panic(err)
	}
	got, err := client.Download(ctx, shardcast.Latest, filepath.Join(dir, "copy.bin"))
	if err != nil {
		panic(err)
	}
	text, err := os.ReadFile(got.Path)
	fmt.Println(got.Version.Name, got.Version.File, got.Version.Size, string(text), err)

	stop()
	fmt.Println(client.Close(), <-ended, origin.Close())
	// Output:
	// v1 weights.bin 16 a lot of numbers <nil>
	// <nil> <nil> <nil>
}

func ExampleClient_Follow() {
	dir, remove := temporary()
	defer remove()
	ctx, stop := context.WithCancel(context.Background())

	origin, err := shardcast.NewOrigin(
		shardcast.OriginOptions{DataDir: filepath.Join(dir, "data"), Host: "127.0.0.1", Port: -1},
	)
	if err != nil {
		panic(err)
	}
	ln, err := origin.Listen()
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- origin.Serve(ctx, ln) }()
	publish := func() {
		if _, err := origin.Broadcast(ctx, filepath.Join(dir, "weights.bin")); err != nil {
			panic(err)
		}
	}
	publish()

	client, err := shardcast.NewClient(shardcast.ClientOptions{
		Servers: []string{ln.Addr().String()}, OutputDir: filepath.Join(dir, "weights"),
	})
	if err != nil {
		panic(err)
	}
	for got, err := range client.Follow(ctx, shardcast.FollowOptions{Marker: "stable"}) {
		if err != nil && got.Version.Name == "" {
			fmt.Println(err) // the last one
			break
		}
		if err != nil {
			continue // Follow leaves this version out
		}
		path, _ := filepath.Rel(dir, got.Path)
		fmt.Println(got.Version.Name, filepath.ToSlash(path), got.Version.Size)
		if got.Version.Name == "v3" {
			break
		}
		publish()
	}

	stop()
	fmt.Println(client.Close(), <-ended, origin.Close())
	// Output:
	// v1 weights/v1/weights.bin 16
	// v2 weights/v2/weights.bin 16
	// v3 weights/v3/weights.bin 16
	// <nil> <nil> <nil>
}

func ExampleNewMiddle() {
	dir, remove := temporary()
	defer remove()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)

	origin, err := shardcast.NewOrigin(
		shardcast.OriginOptions{DataDir: filepath.Join(dir, "data"), Host: "127.0.0.1", Port: -1},
	)
	if err != nil {
		panic(err)
	}
	originListener, err := origin.Listen()
	if err != nil {
		panic(err)
	}
	go func() { ended <- origin.Serve(ctx, originListener) }()
	if _, err := origin.Broadcast(ctx, filepath.Join(dir, "weights.bin")); err != nil {
		panic(err)
	}

	middle, err := shardcast.NewMiddle(shardcast.MiddleOptions{
		Upstreams: []string{
			originListener.Addr().String(),
		},
		DataDir: filepath.Join(dir, "middle_data"),
		Host:    "127.0.0.1",
		Port:    -1,
	})
	if err != nil {
		panic(err)
	}
	middleListener, err := middle.Listen()
	if err != nil {
		panic(err)
	}
	go func() { ended <- middle.Serve(ctx, middleListener) }()

	client, err := shardcast.NewClient(shardcast.ClientOptions{Servers: []string{middleListener.Addr().String()}})
	if err != nil {
		panic(err)
	}
	for range time.Tick(10 * time.Millisecond) {
		got, err := client.Download(ctx, "v1", filepath.Join(dir, "copy.bin"))
		if errors.Is(err, shardcast.ErrNoVersion) {
			continue // the middle does not have all of it yet
		}
		fmt.Println(got.Version.Name, got.Version.Size, err)
		break
	}

	stop()
	fmt.Println(client.Close(), <-ended, <-ended, middle.Close(), origin.Close())
	// Output:
	// v1 16 <nil>
	// <nil> <nil> <nil> <nil> <nil>
}
