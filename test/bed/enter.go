package bed

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// role tells a copy of this program what it is: nothing = the one that was started by the user, lan = the one with the
// namespaces, where run runs, host = the server of a node, node = a speaker; anything else is in Program.Roles.
const role = "FAIRLEAD_WIRE_ROLE"

// Program is what [Main] runs.
type Program struct {
	Before func() error                         // called by the outer process first; nil = nothing
	Run    func() int                           // called inside, with the outer process's arguments; returns the exit code
	Roles  map[string]func(args []string) error // what copies of the program do that [Again] starts
}

// Main is the whole main function of a program or test binary that uses the package. It returns the exit code.
func Main(p Program) int {
	var err error
	switch as := os.Getenv(role); as {
	case "lan":
		if err = private(); err == nil {
			return p.Run()
		}
	case "host":
		err = runHost(os.Args[1])
	case "node":
		var o NodeOptions
		if err = json.Unmarshal([]byte(os.Args[1]), &o); err == nil {
			err = runNode(o)
		}
	default:
		if do := p.Roles[as]; do != nil {
			err = do(os.Args[1:])
			break
		}
		if p.Before != nil {
			err = p.Before()
		}
		if err == nil {
			return enter()
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s%v: %v\n", os.Getenv(role), os.Args, err)
		return 1
	}
	return 0
}

// enter runs this program in namespaces of their own and returns its exit code. The process namespace takes every node with it
// when the program ends, however it ends.
func enter() int {
	cmd := Again("lan", os.Args[1:]...)
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ended) && ended.ExitCode() > 0:
		return ended.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "running in namespaces of their own, which needs root or user namespaces:", err)
	return 1
}

// private gives this mount namespace a /proc of its process namespace and an empty /run, where the nodes' sockets and
// keepalived's files go, and the network namespace a loopback.
func private() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("run", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	return raise("lo")
}

// Again returns a command that starts this program in another role, and prints where we print.
func Again(as string, args ...string) *exec.Cmd {
	return child(append(os.Environ(), role+"="+as), "/proc/self/exe", args...)
}
