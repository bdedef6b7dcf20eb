//go:build kernel

package kernel

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/ipvs"
)

// inside marks the process that runs in namespaces of its own.
const inside = "FAIRLEAD_KERNEL_TEST_INSIDE"

var engineFlag = flag.String("engine", "", "the engine to test; empty = all that the kernel offers")

// TestMain runs the tests in a child with a network and a mount namespace of its own, which is the node. Nothing of them
// outlives it.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signal.Ignore(os.Interrupt) // the child gets it too and decides
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	default:
		fmt.Fprintln(os.Stderr, "starting in new namespaces (needs root):", err)
		os.Exit(1)
	}
}

// forEachEngine runs body once per engine, each time on an empty node.
func forEachEngine(t *testing.T, body func(t *testing.T, b *bed)) {
	t.Helper()
	names := engines()
	if *engineFlag != "" {
		names = []string{*engineFlag}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) { body(t, newBed(t, name)) })
	}
}

// engines returns those that the kernel offers.
func engines() []string {
	if ipvs.Probe(context.Background()) == nil {
		return []string{engine.NFT, engine.IPVS}
	}
	return []string{engine.NFT}
}
