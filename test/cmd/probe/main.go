package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/internal/neighbours"
	"github.com/fairlead-lb/fairlead/test/probe"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := run(ctx, os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, args []string) (any, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("usage: probe http|udp|arp ADDRESS [flags]; see the package documentation")
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	var (
		path     = fs.String("path", "/hostname", "http: path to GET")
		message  = fs.String("message", "hostname", "udp: datagram to send")
		port     = fs.Uint("port", 0, "udp: send everything from this port; 0 = each attempt from a new one")
		interval = fs.Duration("interval", 5*time.Millisecond, "time between attempts")
		timeout  = fs.Duration("timeout", time.Second, "time until an attempt counts as failed")
		length   = fs.Duration("for", 3*time.Second, "how long to go on; 0 = until the standard input ends")
		iface    = fs.String("iface", "eth0", "arp: interface to ask on")
	)
	if err := fs.Parse(args[2:]); err != nil {
		return nil, err
	}
	switch args[0] {
	case "http", "udp":
		target, err := netip.ParseAddrPort(args[1])
		if err != nil {
			return nil, fmt.Errorf("parsing target %q: %w", args[1], err)
		}
		try := probe.HTTP(target, *path)
		if args[0] == "udp" {
			try = probe.UDP(target, *message)
		}
		if *port > 0 {
			try = probe.Flow(target, *message, uint16(*port))
		}
		if *length == 0 {
			ctx, *length = whileThereIsInput(ctx), math.MaxInt64
		}
		return probe.Repeat(ctx, try, *interval, *timeout, *length), nil
	case "arp":
		addr, err := netip.ParseAddr(args[1])
		if err != nil {
			return nil, fmt.Errorf("parsing address %q: %w", args[1], err)
		}
		return neighbours.Who(*iface, addr, *length)
	}
	return nil, fmt.Errorf("unknown mode %q: use http, udp or arp", args[0])
}

// whileThereIsInput returns a context that ends with the standard input.
func whileThereIsInput(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}
