package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// New makes a network namespace and mounts it on path, so that it lives as long as
// that mount does.
func New(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("making namespace file: %w", err)
	}
	_ = file.Close()
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making network namespace: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting network namespace on %s: %w", path, err)
		}
		return nil
	})
}

// Do runs f in the namespace at path. What f starts in goroutines of its own runs
// in the process's namespace.
func Do(path string, f func() error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening network namespace: %w", err)
	}
	defer file.Close()
	return onThread(func() error {
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering network namespace %s: %w", path, err)
		}
		return f()
	})
}

// Dial connects to a literal address from the namespace at path.
func Dial(ctx context.Context, path, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := Do(path, func() error {
		// A literal address is dialled by the calling goroutine, so in the namespace.
		var err error
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// onThread runs f on a thread whose network namespace f may change, and changes it
// back. A thread that cannot be changed back is not used again.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // without an unlock the thread ends with this goroutine
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			result <- fmt.Errorf("opening own network namespace: %w", err)
			return
		}
		defer own.Close()
		err = f()
		back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET)
		if back == nil {
			runtime.UnlockOSThread()
		} else {
			back = fmt.Errorf("leaving network namespace: %w", back)
		}
		result <- errors.Join(err, back)
	}()
	return <-result
}
