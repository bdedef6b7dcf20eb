package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: probe http|udp|hold|arp ADDRESS [flags]; see the package documentation")
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	var (
		path     = fs.String("path", "/hostname", "http, hold: path to GET")
		message  = fs.String("message", "hostname", "udp: datagram to send")
		port     = fs.Uint("port", 0, "udp: send everything from this port; 0 = each attempt from a new one")
		open     = fs.Int("open", 1000, "hold: how many connections")
		interval = fs.Duration("interval", 5*time.Millisecond, "time between attempts")
		timeout  = fs.Duration("timeout", time.Second, "time until an attempt counts as failed")
		length   = fs.Duration("for", 3*time.Second, "how long to go on; 0 = until the standard input ends")
		iface    = fs.String("iface", "eth0", "arp: interface to ask on")
	)
	if err := fs.Parse(args[2:]); err != nil {
		return err
	}
	if args[0] == "arp" {
		addr, err := netip.ParseAddr(args[1])
		if err != nil {
			return fmt.Errorf("parsing address %q: %w", args[1], err)
		}
		answers, err := neighbours.Who(*iface, addr, *length)
		return errors.Join(err, json.NewEncoder(os.Stdout).Encode(answers))
	}
	target, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return fmt.Errorf("parsing target %q: %w", args[1], err)
	}
	var try probe.Attempt
	switch {
	case args[0] == "hold":
		return hold(probe.Hold(ctx, target, *path, *open, *timeout), *interval)
	case args[0] == "http":
		try = probe.HTTP(target, *path)
	case args[0] == "udp" && *port > 0:
		try = probe.Flow(target, *message, uint16(*port))
	case args[0] == "udp":
		try = probe.UDP(target, *message)
	default:
		return fmt.Errorf("unknown mode %q: use http, udp, hold or arp", args[0])
	}
	if *length == 0 {
		ctx, *length = whileThereIsInput(ctx), math.MaxInt64
	}
	return json.NewEncoder(os.Stdout).Encode(probe.Repeat(ctx, try, *interval, *timeout, *length))
}

// hold prints what became of the connections at first and for each line of the standard input.
func hold(h *probe.Held, interval time.Duration) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out, lines := json.NewEncoder(os.Stdout), bufio.NewScanner(os.Stdin)
	err := out.Encode(h.Check())
	go h.Use(ctx, interval)
	for err == nil && lines.Scan() {
		err = out.Encode(h.Check())
	}
	return errors.Join(err, lines.Err())
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
