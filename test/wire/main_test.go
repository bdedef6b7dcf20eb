//go:build wire

package wire

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// role tells a copy of this test binary what it is: nothing = the one that was started by go test, lan = the one with the
// namespace that holds the bridge and the client, where the tests run, node = a speaker.
const role = "FAIRLEAD_WIRE_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "lan":
		os.Exit(m.Run())
	case "node":
		if err := runNode(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
	default:
		os.Exit(enter())
	}
}

// enter runs the tests in namespaces of their own and returns their exit code. The process namespace takes every speaker
// with it when the tests end, however they end.
func enter() int {
	cmd := again("lan", os.Args[1:]...)
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWPID
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
	fmt.Fprintln(os.Stderr, "running the tests in namespaces of their own, which needs root or user namespaces:", err)
	return 1
}

// again returns a command that starts this binary in another role; it dies with us.
func again(as string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
