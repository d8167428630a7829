package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// tap makes a network device in a namespace, whose frames are read from and written to a file.
// It goes when the file is closed.
func tap(namespace, name string) (file *os.File, err error) {
	made := make(chan struct{})
	go func() {
		defer close(made)
		runtime.LockOSThread() // and the thread ends with the goroutine, since it is not unlocked
		file, err = tapHere(namespace, name)
	}()
	<-made
	if err != nil {
		return nil, fmt.Errorf("make the device %s in the namespace %s: %w", name, namespace, err)
	}
	return file, nil
}

// tapHere is tap, and leaves its thread in the namespace.
func tapHere(namespace, name string) (*os.File, error) {
	ns, err := os.Open("/run/netns/" + namespace)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
