package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// errStopped is returned for processes that are to be started after the end of Run.
var errStopped = errors.New("container runtime has ended")

// spawner starts all processes from one thread, for two reasons. The kernel kills a process at the
// death of the thread that started it, so that thread must live as long as the runtime. And a
// process gets its process id namespace from the starting thread, whose setting must not leak into
// others.
type spawner struct {
	jobs chan job
	done chan struct{}
}

type job struct {
	cmd   *exec.Cmd
	pidNS string
	reply chan error
}

func newSpawner() *spawner { return &spawner{jobs: make(chan job), done: make(chan struct{})} }

// run serves start until ctx ends; all processes die then.
func (s *spawner) run(ctx context.Context) error {
	defer close(s.done)
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	own, err := os.Open("/proc/self/ns/pid")
	if err != nil {
		return fmt.Errorf("opening own process id namespace: %w", err)
	}
	defer own.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-s.jobs:
			j.reply <- startIn(j.cmd, j.pidNS, own)
		}
	}
}

// start starts cmd in the process id namespace named by pidNS, or the runtime's own if that is
// empty. The process gets SIGKILL when the runtime ends.
func (s *spawner) start(cmd *exec.Cmd, pidNS string) error {
	j := job{cmd: cmd, pidNS: pidNS, reply: make(chan error, 1)}
	select {
	case s.jobs <- j:
		return <-j.reply
	case <-s.done:
		return errStopped
	}
}

func startIn(cmd *exec.Cmd, pidNS string, own *os.File) error {
	if pidNS == "" {
		return cmd.Start()
	}
	ns, err := os.Open(pidNS)
	if err != nil {
		return fmt.Errorf("opening process id namespace: %w", err)
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID); err != nil {
		return fmt.Errorf("choosing process id namespace: %w", err)
	}
	err = cmd.Start()
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWPID); back != nil {
		panic("cri: leaving process id namespace: " + back.Error())
	}
	return err
}

// StartError says that a process did not become its program.
type StartError struct {
	Message string
	Code    int // exit code
}

// Error returns the message.
func (e *StartError) Error() string { return e.Message }

// launch starts cmd, which runs one of package container's commands, and returns as soon as the
// program is executed. A *StartError means that it was not; the process has been reaped then.
func (s *spawner) launch(cmd *exec.Cmd, pidNS string) error {
	status, report, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("creating status pipe: %w", err)
	}
	defer status.Close()
	cmd.ExtraFiles = []*os.File{report} // becomes container.StatusFD
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// Elsewhere the process asks for this itself: package os takes the parent that it cannot see from
	// inside another process id namespace for a dead one.
	if pidNS == "" {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	cmd.SysProcAttr.Setsid = true
	err = s.start(cmd, pidNS)
	report.Close()
	if err != nil {
		return fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	message, err := io.ReadAll(io.LimitReader(status, 64<<10))
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", cmd.Path, err)
	}
	if len(message) == 0 {
		return nil
	}
	cmd.Wait() // its error is the exit code
	return &StartError{Message: string(message), Code: exitCode(cmd.ProcessState)}
}

// exitCode returns the code as Kubernetes reports it: 128 plus the signal that killed the process.
func exitCode(state *os.ProcessState) int {
	if state == nil {
		return -1
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
