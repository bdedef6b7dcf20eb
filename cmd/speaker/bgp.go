package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"time"

	bgpprocess "github.com/fairlead-lb/fairlead/announce/bgp/process"
)

// bgpSocket is where the two processes of a pod meet by default.
const bgpSocket = "/run/fairlead-bgp/bgp.sock"

// bgpConfig is what the command line of "speaker bgp" says.
type bgpConfig struct {
	bgpprocess.Options
	serve     bool // be the process with the sessions, which the first one starts
	logFormat string
	logLevel  slog.Level
}

func parseBGP(args []string) (bgpConfig, error) {
	var c bgpConfig
	fs := flag.NewFlagSet("speaker bgp", flag.ContinueOnError)
	fs.StringVar(&c.Path, "socket", bgpSocket, "unix socket at which the speaker is awaited")
	fs.DurationVar(&c.KeepOnCrash, "keep-on-crash", 0, "how long routers keep the paths of a speaker that has crashed, if it is not back by then; 0: not at all, since this node may no longer forward")
	fs.DurationVar(&c.Grace, "grace", 20*time.Second, "how long the speaker may take to end once both are told to stop; less than the pod's grace period")
	fs.StringVar(&c.logFormat, "log-format", "json", "json or text")
	fs.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	fs.BoolVar(&c.serve, "serve", false, "run the sessions in this process; without it, it starts one that does, and again at once when that ends")
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	switch {
	case c.logFormat != "json" && c.logFormat != "text":
		return c, fmt.Errorf("--log-format is %q, want json or text", c.logFormat)
	case c.Path == "":
		return c, errors.New("--socket is empty")
	case c.KeepOnCrash < 0 || c.Grace < 0:
		return c, fmt.Errorf("--keep-on-crash %s and --grace %s must not be negative", c.KeepOnCrash, c.Grace)
	}
	return c, nil
}

// runBGP is the command "speaker bgp": the sessions with the routers, apart from everything else.
func runBGP(ctx context.Context, args []string) error {
	c, err := parseBGP(args)
	if err != nil {
		return err
	}
	c.Log = slog.New(logHandler(c.logFormat, c.logLevel))
	if c.serve {
		return bgpprocess.Serve(ctx, c.Options)
	}
	return bgpprocess.Supervise(ctx, func() *exec.Cmd {
		cmd := exec.Command("/proc/self/exe", slices.Concat([]string{"bgp"}, args, []string{"--serve"})...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd
	}, c.Log)
}
