//go:build wire

package bfd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// role tells a copy of this test binary what it is: nothing = the one that was started by go test, lan = the one with the
// namespaces in which the tests run, host = it holds a network namespace, peer = it runs a group of sessions.
const role = "FAIRLEAD_BFD_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "lan":
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "preparing the namespaces:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case "host":
		time.Sleep(time.Hour)
	case "hog":
		for n := 0; ; n++ { // never ends
		}
	case "peer":
		if err := runPeer(); err != nil {
			fmt.Fprintln(os.Stderr, "peer:", err)
			os.Exit(1)
		}
	default:
		os.Exit(enter())
	}
}

// enter runs the tests in namespaces of their own and returns their exit code. The process namespace takes every process with
// it when the tests end, however they end.
func enter() int {
	cmd := again("lan", os.Args[1:]...)
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ended) && ended.ExitCode() > 0:
		return ended.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "running the tests in namespaces of their own, which needs root:", err)
	return 1
}

// prepare gives the namespaces a /proc and a loopback of their own.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	return exec.Command("ip", "link", "set", "lo", "up").Run()
}

// again returns a command that starts this binary in another role; it dies with us.
func again(as string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
