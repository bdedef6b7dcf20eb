package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

// options are what the command line says.
type options struct {
	services int
	engine   string // nft or ipvs
	bin      string
	state    string
	changes  int
	idle     time.Duration
	load     time.Duration
	only     string // a contender's name begins with it
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
	flag.StringVar(&o.only, "only", "", "measure only fairlead, or only kube-proxy")
	flag.BoolVar(&o.prepare, "prepare", false, "only create the objects")
	flag.Parse()
	os.Exit(bed.Main(bed.Program{Run: func() int {
		runtime.LockOSThread() // children end with the thread that started them, which must be none that enters other namespaces
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := run(ctx, o); err != nil {
			fmt.Fprintln(os.Stderr, "datapath:", err)
			return 1
		}
		return 0
	}}))
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
	direct.print("direct")
	for _, p := range []*contender{c.kubeProxy(), c.fairlead()} {
		if !strings.HasPrefix(p.name, o.only) {
			continue
		}
		if err := p.measure(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// line prints one result.
func line(who, what string, value float64, unit string) {
	fmt.Printf("datapath.%s.%s %.4g %s\n", who, what, value, unit)
}
