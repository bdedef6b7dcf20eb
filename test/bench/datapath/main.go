package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// inside marks the process that runs in namespaces of its own.
const inside = "FAIRLEAD_BENCH_INSIDE"

// options are what the command line says.
type options struct {
	services int
	engine   string // nft or ipvs
	bin      string
	state    string
	changes  int
	idle     time.Duration
	load     time.Duration
	prepare  bool
}

func main() {
	var o options
	flag.IntVar(&o.services, "services", 10000, "how many Services, with five endpoints each")
	flag.StringVar(&o.engine, "engine", "nft", "nft, beside kube-proxy in mode nftables, or ipvs, beside mode ipvs")
	flag.StringVar(&o.bin, "bin", "bin", "directory of the binaries")
	flag.StringVar(&o.state, "state", ".cache/bench-datapath", "directory that keeps the API server's data")
	flag.IntVar(&o.changes, "changes", 50, "how many endpoint changes to time")
	flag.DurationVar(&o.idle, "idle", 30*time.Second, "how long to look at an idle process")
	flag.DurationVar(&o.load, "load", 5*time.Second, "how long each measurement of traffic lasts")
	flag.BoolVar(&o.prepare, "prepare", false, "only create the objects")
	flag.Parse()
	if os.Getenv(inside) == "" {
		os.Exit(enter())
	}
	runtime.LockOSThread() // children end with the thread that started them, which must be none that enters other namespaces
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "datapath:", err)
		os.Exit(1)
	}
}

// enter runs this program again in a network and a mount namespace of its own, of which nothing outlives it.
func enter() int {
	runtime.LockOSThread() // the death signal is that of the thread that started the child
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signal.Ignore(os.Interrupt) // the child gets it too and decides
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	}
	fmt.Fprintln(os.Stderr, "datapath: starting in new namespaces (needs root):", err)
	return 1
}

func run(ctx context.Context, o options) (err error) {
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	if o.state, err = filepath.Abs(filepath.Join(o.state, fmt.Sprint(o.services))); err != nil {
		return err
	}
	if err := buildNetwork(ctx); err != nil {
		return err
	}
	c, err := startCluster(ctx, o)
	if err != nil {
		return err
	}
	defer c.stop()
	if err := c.objects(ctx); err != nil || o.prepare {
		return err
	}
	direct, err := measureTraffic(ctx, podAddr, answerPort, swallow, o.load)
	if err != nil {
		return fmt.Errorf("direct routing: %w", err)
	}
	direct.print("direct", direct)
	for _, p := range []*contender{c.kubeProxy(), c.fairlead()} {
		if err := p.measure(ctx, direct); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// line prints one result.
func line(who, what string, value float64, unit string) {
	fmt.Printf("datapath.%s.%s %.4g %s\n", who, what, value, unit)
}
