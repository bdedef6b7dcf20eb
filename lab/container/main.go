package container

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// StatusFD is the descriptor on which Main, and Pause if told so by --status, say how it went.
// It is closed empty at the moment when the program is executed, or when the pod's namespaces are
// ready; otherwise the reason is written to it.
const StatusFD = 3

// Exit codes of a process that could not become its program, as shells and runc use them.
const (
	ExitNotStarted    = 128
	ExitNotFound      = 127
	ExitNotExecutable = 126
)

// Main turns the calling process into what the file named by --spec says and does not return if
// that succeeds. Otherwise the reason is on StatusFD and the exit code is returned.
func Main(args []string) int {
	flags := flag.NewFlagSet("container", flag.ContinueOnError)
	file := flags.String("spec", "", "file that describes the container")
	if err := flags.Parse(args); err != nil {
		return ExitNotStarted
	}
	unix.CloseOnExec(StatusFD)
	status := os.NewFile(StatusFD, "status")
	if err := dieWithParent(); err != nil {
		fmt.Fprint(status, err)
		return ExitNotStarted
	}
	// Namespaces and credentials belong to a thread; the one that executes the program keeps its own.
	runtime.LockOSThread()
	err := become(*file)
	fmt.Fprint(status, err)
	return exitCode(err)
}

// exitCode distinguishes a program that could not be executed from everything before that.
func exitCode(err error) int {
	var failed *exec.Error
	switch {
	case !errors.As(err, &failed):
		return ExitNotStarted
	case errors.Is(failed.Err, exec.ErrNotFound), errors.Is(failed.Err, unix.ENOENT):
		return ExitNotFound
	}
	return ExitNotExecutable
}

func become(file string) error {
	spec, err := readSpec(file)
	if err != nil {
		return err
	}
	if err := join(spec.Join); err != nil {
		return err
	}
	if spec.Root != nil {
		if err := spec.Root.enter(); err != nil {
			return err
		}
		if err := os.MkdirAll(spec.Process.dir(), 0o755); err != nil {
			return fmt.Errorf("creating working directory: %w", err)
		}
		if err := spec.Root.restrict(); err != nil {
			return err
		}
	}
	return spec.Process.execute()
}

func join(namespaces []Namespace) error {
	kinds := map[string]int{"net": unix.CLONE_NEWNET, "uts": unix.CLONE_NEWUTS, "ipc": unix.CLONE_NEWIPC, "mnt": unix.CLONE_NEWNS}
	fds := make([]int, len(namespaces))
	// All are opened first: the paths do not exist in another mount namespace.
	for i, n := range namespaces {
		fd, err := unix.Open(n.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening namespace %s: %w", n.Path, err)
		}
		fds[i] = fd
	}
	for i, n := range namespaces {
		if n.Kind == "mnt" {
			// A mount namespace cannot be entered while the root directory is shared with other threads.
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return fmt.Errorf("unsharing file system attributes: %w", err)
			}
		}
		if err := unix.Setns(fds[i], kinds[n.Kind]); err != nil {
			return fmt.Errorf("entering %s namespace: %w", n.Kind, err)
		}
	}
	return nil
}

// Pause holds a pod's namespaces: it names the host, sets the pod's sysctls, reaps the children
// that are left to it in a shared process id namespace, and ends on SIGTERM.
func Pause(args []string) int {
	flags := flag.NewFlagSet("pause", flag.ContinueOnError)
	hostname := flags.String("hostname", "", "host name to set, if any")
	report := flags.Bool("status", false, "report on descriptor 3")
	var sysctls []string
	flags.Func("sysctl", "NAME=VALUE to set, repeatable", func(s string) error {
		sysctls = append(sysctls, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return ExitNotStarted
	}
	signal.Ignore(unix.SIGCHLD, unix.SIGINT)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	status := os.Stderr
	if *report {
		status = os.NewFile(StatusFD, "status")
	}
	if err := prepare(*hostname, sysctls); err != nil {
		fmt.Fprint(status, err)
		return ExitNotStarted
	}
	if *report {
		status.Close()
	}
	<-stop
	return 0
}

func prepare(hostname string, sysctls []string) error {
	if hostname != "" {
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("setting host name %s: %w", hostname, err)
		}
	}
	for _, s := range sysctls {
		name, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0); err != nil {
			return fmt.Errorf("setting sysctl %s: %w", s, err)
		}
	}
	return nil
}
