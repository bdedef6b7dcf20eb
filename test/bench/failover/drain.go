package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
	"github.com/fairlead-lb/fairlead/test/probe"
)

const longLived = 20 // connections that stay open through a rolling restart

// drain restarts the speakers one after the other, with the real datapath on the nodes and one endpoint beside them, while the
// client opens 200 connections a second, to each of their addresses in turn, and keeps some open.
func drain(b *bench) {
	l := bed.New(b)
	const backend = 50
	l.Boot(bed.NodeOptions{Number: backend})
	c := speakers(l, "speakers-3", 3, bed.NodeOptions{Number: 1, VIPs: 6, Heartbeat: heartbeat, Backend: backend})
	for i := range min(b.c.trials, 20) {
		b.roll(l, c, []int{1, 2, 3})
		b.logf("drain: roll %d", i+1)
	}
}

// roll restarts the speakers with the given numbers once, one after the other.
func (b *bench) roll(l *bed.LAN, c contender, numbers []int) {
	addrs := slices.SortedFunc(maps.Keys(c.owners()), netip.Addr.Compare)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var clients sync.WaitGroup
	reports := make([]probe.Report, len(addrs))
	for i, a := range addrs {
		clients.Go(func() {
			reports[i] = probe.Repeat(ctx, probe.TCP(bed.Service(a)), time.Duration(len(addrs))*spacing, patience, time.Hour)
		})
	}
	broken := make([]error, longLived)
	for i := range broken {
		clients.Go(func() { broken[i] = keepOpen(ctx, bed.Service(addrs[i%len(addrs)])) })
	}
	time.Sleep(lead)
	for _, i := range numbers {
		l.End(i, syscall.SIGTERM)
		l.Speak(i)
		c.owners()
	}
	time.Sleep(lead)
	cancel()
	clients.Wait()
	b.countDrain(reports, broken)
}

func (b *bench) countDrain(reports []probe.Report, broken []error) {
	attempts, failed, ended := 0, 0, 0
	for _, r := range reports {
		attempts += r.OK
		for text, n := range r.Errors {
			b.logf("drain: %d times %s", n, text)
			failed += n
		}
	}
	for _, err := range broken {
		if err == nil {
			continue
		}
		if ended++; ended == 1 {
			b.logf("drain: a long-lived connection broke: %v", err)
		}
	}
	b.out.add("drain.roll.new-connections", "connects", float64(attempts+failed))
	b.out.add("drain.roll.new-connections.failed", "connects", float64(failed))
	b.out.add(fmt.Sprintf("drain.roll.broken-of-%d-long-lived", longLived), "connects", float64(ended))
}

// keepOpen exchanges a line with the server every 100 ms until ctx is done. An error says that the connection broke before.
func keepOpen(ctx context.Context, target netip.AddrPort) error {
	conn, err := net.DialTimeout("tcp", target.String(), patience)
	if err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	for {
		err := conn.SetDeadline(time.Now().Add(5 * time.Second)) // TCP has sent everything again three times by then
		_, read := lines.ReadString('\n')
		if err := errors.Join(err, read); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
		if _, err := conn.Write([]byte("still there\n")); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
}
