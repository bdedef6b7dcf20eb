package reaper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
)

// Reaper waits for all children of this process. It is safe for concurrent use.
type Reaper struct {
	mu       sync.Mutex
	children map[int]*Child
}

// Child is a process that Start started.
type Child struct {
	Pid    int
	reaper *Reaper
	done   chan struct{}
	status syscall.WaitStatus // valid once done is closed
}

// New returns a Reaper; there is to be one in a process.
func New() *Reaper {
	return &Reaper{children: map[int]*Child{}}
}

// Run waits for children until ctx ends.
func (r *Reaper) Run(ctx context.Context) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		r.reap()
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
		}
	}
}

// reap collects every child that has ended.
func (r *Reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		child, ours := r.children[pid]
		if !ours {
			continue // an orphan of some process of ours
		}
		delete(r.children, pid)
		child.status = status
		close(child.done)
	}
}

// Start starts cmd, whose standard streams must be nil or files.
func (r *Reaper) Start(cmd *exec.Cmd) (*Child, error) {
	// Under the lock, so that the child is known before it can be reaped, and so that
	// a failing exec is waited for by os/exec itself.
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	child := &Child{Pid: cmd.Process.Pid, reaper: r, done: make(chan struct{})}
	r.children[child.Pid] = child
	_ = cmd.Process.Release() // its status is the Reaper's to collect
	return child, nil
}

// Done is closed when the process has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Signal sends sig, or does nothing when the process has ended.
func (c *Child) Signal(sig syscall.Signal) error {
	c.reaper.mu.Lock() // not reaped in between: the pid cannot be another's
	defer c.reaper.mu.Unlock()
	if _, running := c.reaper.children[c.Pid]; !running {
		return nil
	}
	if err := syscall.Kill(c.Pid, sig); err != nil {
		return fmt.Errorf("sending %v to process %d: %w", sig, c.Pid, err)
	}
	return nil
}

// Err says how the process ended, nil for exit status 0. Call it after Done.
func (c *Child) Err() error {
	select {
	case <-c.done:
	default:
		panic("reaper: Err before Done")
	}
	switch {
	case c.status.Signaled():
		return fmt.Errorf("killed by %v", c.status.Signal())
	case c.status.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", c.status.ExitStatus())
	}
	return nil
}
