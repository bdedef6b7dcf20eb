package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/control"
	"github.com/fairlead-lb/fairlead/lab/state"
)

const (
	defaultGrace = 50 * time.Second // kube-controller-manager's own default
	defaultWait  = 5 * time.Minute
)

func newUpCommand(flags *labFlags) *cobra.Command {
	lab := config.Lab{Nodes: 3, KubeProxy: config.KubeProxyNFTables, Router: config.RouterNone, Grace: defaultGrace}
	var wait time.Duration
	command := &cobra.Command{
		Use:   "up",
		Short: "Start the lab and wait until its nodes are Ready",
		Long: `Start the lab and wait until its nodes are Ready.

A lab that runs with the same options is left as it is. What a killed lab has
left behind is removed first.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			return up(ctx, flags, lab, wait)
		},
	}
	f := command.Flags()
	f.IntVar(&lab.Nodes, "nodes", lab.Nodes, fmt.Sprintf("number of nodes, 1 to %d", config.MaxNodes))
	f.BoolVar(&lab.DualStack, "dual-stack", false, "IPv6 for nodes, pods and Services too")
	f.BoolVar(&lab.DNS, "dns", false, "cluster DNS: CoreDNS behind the Service kube-dns; something must serve ClusterIPs")
	f.StringVar((*string)(&lab.KubeProxy), "kube-proxy", string(lab.KubeProxy), "none, nftables, iptables or ipvs")
	f.StringVar((*string)(&lab.Router), "router", string(lab.Router), "routing daemon on the router: none, frr, bird or gobgp")
	f.DurationVar(&lab.Grace, "node-monitor-grace", lab.Grace, "silence after which a node is NotReady")
	f.StringVar(&lab.BinDir, "bin-dir", "", "directory of the programs that images stand for (default: that of fairlab)")
	f.DurationVar(&wait, "wait", defaultWait, "give up after this time")
	return command
}

func up(ctx context.Context, flags *labFlags, lab config.Lab, wait time.Duration) error {
	dir, err := flags.dir()
	if err != nil {
		return err
	}
	if err := complete(&lab, flags.name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lab.Timeout(wait))
	defer cancel()
	lock, err := dir.Acquire()
	if err != nil {
		return err
	}
	defer lock.Release()
	if process, alive := dir.Supervisor(); alive {
		running, err := join(ctx, dir, lab)
		if running || err != nil {
			return err
		}
		fmt.Printf("lab %s did not come up earlier, starting anew\n", lab.Name)
		if err := process.Kill(ctx); err != nil {
			return err
		}
	}
	if err := precheck(dir, lab); err != nil {
		return err
	}
	if err := removeState(dir); err != nil {
		return err
	}
	err = launch(ctx, dir, lab)
	if err == nil && lab.DNS {
		err = applyDNS(ctx, dir)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		fmt.Println("interrupted, removing the lab")
		return errors.Join(ctx.Err(), remove(context.WithoutCancel(ctx), dir))
	}
	return err
}

// complete fills in what the command line left open and checks the rest.
func complete(lab *config.Lab, name string) error {
	lab.Name = name
	var err error
	if lab.Slow, err = slow(); err != nil {
		return err
	}
	if lab.BinDir == "" {
		self, err := program("fairlab")
		if err != nil {
			return err
		}
		lab.BinDir = filepath.Dir(self)
	}
	if lab.BinDir, err = filepath.Abs(lab.BinDir); err != nil {
		return fmt.Errorf("finding directory of programs: %w", err)
	}
	return lab.Validate()
}

// join waits for a lab that another `up` has started, and reports false when it
// never came up.
func join(ctx context.Context, dir state.Dir, lab config.Lab) (running bool, err error) {
	have, err := options(dir)
	if err != nil {
		return false, err
	}
	var last control.Step
	err = control.NewClient(dir.ControlSocket()).Progress(ctx, func(step control.Step) { last = step })
	if err != nil || !last.Ready {
		return false, ctx.Err()
	}
	if diff := have.Diff(lab); diff != nil {
		return false, fmt.Errorf("lab %s runs with other options: %s; `fairlab down --name %s` first", lab.Name, strings.Join(diff, ", "), lab.Name)
	}
	fmt.Printf("lab %s is up already\n", lab.Name)
	return true, nil
}

// launch starts a supervisor and prints its steps until the lab is ready.
func launch(ctx context.Context, dir state.Dir, lab config.Lab) error {
	ended, err := startSupervisor(dir, lab)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-ended:
			cancel(fmt.Errorf("supervisor ended (%v):\n%s", err, tail(dir.Log("supervisor"))))
		case <-ctx.Done():
		}
	}()
	err = follow(ctx, control.NewClient(dir.ControlSocket()))
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("bringing lab %s up: %w", lab.Name, context.Cause(ctx))
	}
	return err
}

// follow prints the steps; the socket is there a moment after the supervisor.
func follow(ctx context.Context, client *control.Client) error {
	for {
		var failure error
		seen := false
		err := client.Progress(ctx, func(step control.Step) {
			seen = true
			if step.Error != "" {
				failure = errors.New(step.Error)
				return
			}
			fmt.Printf("%7.1fs  %s\n", step.Elapsed.Seconds(), step.Text)
		})
		if failure != nil || err == nil {
			return failure
		}
		if seen || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of a log, for an error message.
func tail(path string) string {
	const size = 1500
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-size):])
}
