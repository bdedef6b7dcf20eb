package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// streamRuntime is the side of Runtime that the streaming server calls, for one connection each.
type streamRuntime Runtime

// Exec runs a command for a client.
func (s *streamRuntime) Exec(ctx context.Context, id string, args []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	code, err := (*Runtime)(s).execute(ctx, id, session{args: args, tty: tty, in: in, out: writer(out), err: writer(errs), resize: resize})
	if failed := (*StartError)(nil); errors.As(err, &failed) {
		code = failed.Code
		if errs != nil {
			fmt.Fprintln(errs, failed) // clients print no more than the code of what they get as error
		}
	} else if err != nil {
		return err
	} else if code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	if code == 0 {
		return nil
	}
	return utilexec.CodeExitError{Err: err, Code: code}
}

// writer replaces a stream that the client has not asked for.
func writer(w io.WriteCloser) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// Attach connects a client to a container's program until either ends.
func (s *streamRuntime) Attach(ctx context.Context, id string, in io.Reader, out, errs io.WriteCloser, _ bool, sizes <-chan remotecommand.TerminalSize) error {
	c, err := (*Runtime)(s).running(id)
	if err != nil {
		return err
	}
	defer c.stdout.attach(writer(out))()
	defer c.stderr.attach(writer(errs))()
	if in != nil && c.stdin != nil {
		go func() {
			io.Copy(c.stdin, in) // ends with the container or the client
			if c.config.GetStdinOnce() && c.terminal == nil {
				c.stdin.Close()
			}
		}()
	}
	for {
		select {
		case size := <-sizes:
			if size.Width == 0 {
				sizes = nil // closed
			} else if err := resize(c.terminal, size.Width, size.Height); err != nil {
				return err
			}
		case <-c.ended:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// PortForward connects stream to a port of the pod's loopback interface.
func (s *streamRuntime) PortForward(ctx context.Context, sandboxID string, port int32, stream io.ReadWriteCloser) error {
	r := (*Runtime)(s)
	r.mu.Lock()
	sandbox := r.sandboxes[sandboxID]
	ready := sandbox != nil && sandbox.ready
	r.mu.Unlock()
	if !ready {
		return notFound("running pod sandbox", sandboxID)
	}
	conn, err := dialIn(ctx, sandbox.ns("net"), port)
	if err != nil {
		return fmt.Errorf("forwarding to port %d: %w", port, err)
	}
	defer conn.Close()
	group, _ := errgroup.WithContext(ctx)
	group.Go(func() error {
		_, err := io.Copy(stream, conn)
		stream.Close() // also ends the other direction
		return err
	})
	group.Go(func() error {
		_, err := io.Copy(conn, stream)
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.CloseWrite() // the answer may still be under way
		}
		return err
	})
	return group.Wait()
}

// dialIn opens a connection to the loopback interface of a network namespace.
func dialIn(ctx context.Context, ns string, port int32) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	// On a goroutine and thread of its own, which is not used again after it has changed its namespace.
	go func() {
		runtime.LockOSThread()
		file, err := os.Open(ns)
		if err == nil {
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
			file.Close()
		}
		if err != nil {
			done <- result{nil, fmt.Errorf("entering network namespace: %w", err)}
			return
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		if err != nil {
			conn, err = d.DialContext(ctx, "tcp", net.JoinHostPort("::1", strconv.Itoa(int(port))))
		}
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
