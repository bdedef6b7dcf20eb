package enter

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Target says where to run a command.
type Target struct {
	Proc  string // /proc/PID of a process in the mount, UTS, IPC and pid namespaces
	NetNS string // file of the network namespace
}

// Run runs cmd in the target and returns its exit code, 128 plus the number of the
// signal that ended it. The working directory stays the same, as a path. The command
// dies with this process. Run is to be called once, at the end of a program: the
// thread that it enters with stays in the namespaces.
func Run(target Target, cmd *exec.Cmd) (int, error) {
	runtime.LockOSThread()
	dir, err := os.Getwd()
	if err != nil {
		return 0, fmt.Errorf("finding working directory: %w", err)
	}
	if err := target.enter(); err != nil {
		return 0, err
	}
	if cmd.Dir == "" {
		cmd.Dir = dir
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if !fromTerminal(s) {
				_ = cmd.Process.Signal(s) // fails only when the command has ended
			}
		case err := <-ended:
			return exitCode(err)
		}
	}
}

// enter moves the calling thread. Its children are in the pid namespace too.
func (t Target) enter() error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	// All are opened before the first is entered, because then /proc is another one.
	paths := []string{t.NetNS}
	for _, kind := range []string{"uts", "ipc", "pid", "mnt"} {
		paths = append(paths, filepath.Join(t.Proc, "ns", kind))
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("opening namespace: %w", err)
		}
		files = append(files, f)
	}
	// Root and working directory are shared between threads until this.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unsharing file system attributes: %w", err)
	}
	for _, f := range files {
		if err := unix.Setns(int(f.Fd()), 0); err != nil {
			return fmt.Errorf("entering %s: %w", f.Name(), err)
		}
	}
	return nil
}

// fromTerminal reports whether the terminal has sent the signal to the command too.
func fromTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	_, err := unix.IoctlGetTermios(0, unix.TCGETS)
	return err == nil
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if err == nil {
		return 0, nil
	}
	if !errors.As(err, &exit) {
		return 0, fmt.Errorf("waiting for command: %w", err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}
