package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/test/cluster"
)

func main() {
	keep := flag.Bool("keep", false, "leave the lab up at the end")
	name := flag.String("name", "demo", "name of the lab")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *name, *keep)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is a lab and the clock of the lines that are printed.
type demo struct {
	*cluster.Lab
	start time.Time
	nodes []string
}

func (d *demo) say(step, format string, args ...any) {
	fmt.Printf("[%6.1f s] %-28s %s\n", time.Since(d.start).Seconds(), step, fmt.Sprintf(format, args...))
}

func run(ctx context.Context, name string, keep bool) (err error) {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	bin := filepath.Dir(exe)
	d := &demo{start: time.Now(), nodes: []string{"node-1", "node-2", "node-3"}}
	// A demo that was interrupted may have left its lab: begin from nothing. The same goes for the end, in a context of
	// its own because the other one may be the reason to stop.
	down := func() error {
		return (&cluster.Lab{Name: name, Bin: bin}).Down(context.WithoutCancel(ctx))
	}
	if err := down(); err != nil {
		return err
	}
	if !keep {
		defer func() {
			if e := down(); err == nil {
				err = e
			}
		}()
	}
	d.say("starting a cluster", "control plane and %d nodes as namespaces on this machine", len(d.nodes))
	if d.Lab, err = cluster.Start(ctx, bin, name); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.cluster, d.install, d.quickstart, d.whoAnswers, d.policies, d.powerOff} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.sayGoodbye(keep)
	return nil
}

func (d *demo) sayGoodbye(keep bool) {
	if !keep {
		d.say("done", "the lab is taken down; `make demo KEEP=1` leaves it up, README.md says where to go next")
		return
	}
	d.say("done", "the lab is up. Look around:")
	for _, line := range []string{"status", "kubectl get services -A", "exec client -- curl -s http://ADDRESS/hostname", "node poweroff node-2", "capture client", "down"} {
		fmt.Printf("             bin/fairlab --name %s %s\n", d.Name, line)
	}
}
