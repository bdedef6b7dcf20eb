package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

// options are what the command line says.
type options struct {
	mode   string
	engine string
	focus  string
	short  bool
	procs  int
	nodes  int
	runs   int
	slow   int    // factor on time limits, 1 or more
	report string // directory of junit.xml and the suite's output
	keep   bool
	name   string
	bin    string
}

// slowEnv is the factor on time limits that fairlab obeys too: an emulated machine is up to 16 times slower.
const slowEnv = "FAIRLAB_SLOW"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, o)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("conformance", flag.ContinueOnError)
	fs.StringVar(&o.mode, "mode", "full", "who forwards: full, external or kube-proxy")
	fs.StringVar(&o.engine, "engine", "auto", "Fairlead's engine: auto, nft or ipvs")
	fs.StringVar(&o.focus, "focus", "", "run only specs whose names match this expression")
	fs.BoolVar(&o.short, "short", false, "run only the conformance specs and those of load balancers")
	fs.IntVar(&o.procs, "procs", 6, "specs at a time; most of them wait most of the time")
	fs.IntVar(&o.nodes, "nodes", 3, "nodes of the lab, in up to three zones; many specs want two, some three, a few six")
	fs.IntVar(&o.runs, "runs", 1, "how many times to run the suite, one after the other, each in a new lab unless -keep")
	fs.StringVar(&o.report, "report", "", "directory for junit.xml and the suite's output (default .cache/conformance/MODE[-ENGINE][-short])")
	fs.BoolVar(&o.keep, "keep", false, "leave the lab up, and use one that is up")
	fs.StringVar(&o.name, "name", "conformance", "name of the lab")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if _, known := modes[o.mode]; !known {
		return o, fmt.Errorf("-mode is %q; want full, external or kube-proxy", o.mode)
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unknown arguments %q", fs.Args())
	}
	var err error
	if o.slow, err = strconv.Atoi(cmp.Or(os.Getenv(slowEnv), "1")); err != nil || o.slow < 1 {
		return o, fmt.Errorf("%s is %q; want a whole number of 1 or more", slowEnv, os.Getenv(slowEnv))
	}
	self, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("finding the directory of programs: %w", err)
	}
	o.bin = filepath.Dir(self)
	if o.report == "" {
		o.report = filepath.Join(".cache", "conformance", o.kind())
	}
	o.report, err = filepath.Abs(o.report)
	return o, err
}

// kind tells one way to run the suite from others.
func (o options) kind() string {
	kind := o.mode
	if o.engine != "auto" {
		kind += "-" + o.engine
	}
	if o.short {
		kind += "-short"
	}
	return kind
}
