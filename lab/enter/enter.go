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

// Run runs argv in the target with this process's standard streams and returns its
// exit code, 128 plus the number of the signal that ended it. The working directory
// stays the same, as a path. The command dies with this process.
//
// Run is to be called once, at the end of a program, which must call Exec when it is
// started as `self ExecArg ARGV...`: the thread that it enters with stays in the
// namespaces, and the command's life is tied to that thread.
func Run(target Target, argv []string) (int, error) {
	runtime.LockOSThread()
	dir, err := os.Getwd()
	if err != nil {
		return 0, fmt.Errorf("finding working directory: %w", err)
	}
	if err := target.enter(); err != nil {
		return 0, err
	}
	cmd := exec.Command("/proc/self/exe", append([]string{ExecArg}, argv...)...)
	cmd.Dir = dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting %s: %w", argv[0], err)
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

// ExecArg is the argument that has a program call Exec.
const ExecArg = "exec-here"

// Exec turns this process into argv, and returns only with an error. It is the
// second half of Run: os/exec's own Pdeathsig takes a parent outside of the pid
// namespace for a dead one.
func Exec(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("finding program: %w", err)
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("tying the command to its parent: %w", err)
	}
	if os.Getppid() != 0 { // 0 is a parent in another pid namespace, which is the one that lives
		return errors.New("parent has ended")
	}
	if err := syscall.Exec(path, argv, os.Environ()); err != nil {
		return fmt.Errorf("running %s: %w", path, err)
	}
	panic("enter: exec returned without an error")
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
