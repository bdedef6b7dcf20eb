package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

// The ports of the pods: one answers a byte and closes, one swallows what comes.
const (
	answerPort = "8080"
	swallow    = "8081"
)

// serve listens in the pods' namespace.
func serve() error {
	return bed.Within("pod", func() error {
		answer, err := net.Listen("tcp", ":"+answerPort)
		if err != nil {
			return err
		}
		sink, err := net.Listen("tcp", ":"+swallow)
		if err != nil {
			return err
		}
		go bed.Accept(answer, func(c net.Conn) { c.Write([]byte("!")) })
		go bed.Accept(sink, func(c net.Conn) { io.Copy(io.Discard, c) })
		return nil
	})
}

// traffic is what one address carried.
type traffic struct {
	rate     float64 // new connections a second
	p50, p99 time.Duration
	bulk     float64 // bytes a second
}

func (t traffic) print(who string) {
	line(who, "connections", t.rate, "1/s")
	line(who, "connection.p50", float64(t.p50.Microseconds()), "us")
	line(who, "connection.p99", float64(t.p99.Microseconds()), "us")
	line(who, "bulk", t.bulk/1e6, "MB/s")
}

// measureTraffic opens connections to an address from the client, one after the other in each of a few workers, and then sends in bulk to
// another port.
func measureTraffic(ctx context.Context, addr, answers, swallows string, length time.Duration) (t traffic, err error) {
	const workers = 4
	var mu sync.Mutex
	var all []time.Duration
	var errs []error
	start := time.Now()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			took, err := connections(ctx, net.JoinHostPort(addr, answers), start.Add(length))
			mu.Lock()
			defer mu.Unlock()
			all, errs = append(all, took...), append(errs, err)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil || len(all) == 0 {
		return t, fmt.Errorf("connecting to %s (%d connections made): %w", addr, len(all), err)
	}
	slices.Sort(all)
	t.rate = float64(len(all)) / time.Since(start).Seconds()
	t.p50, t.p99 = all[len(all)/2], all[len(all)*99/100]
	t.bulk, err = send(ctx, net.JoinHostPort(addr, swallows), length)
	return t, err
}

// connections opens a connection, reads a byte and closes, until a point in time.
func connections(ctx context.Context, addr string, until time.Time) (took []time.Duration, err error) {
	err = bed.Within("client", func() error {
		var d net.Dialer
		one := make([]byte, 1)
		for time.Now().Before(until) && ctx.Err() == nil {
			start := time.Now()
			c, err := d.DialContext(ctx, "tcp", addr)
			if err != nil {
				return err
			}
			c.SetDeadline(start.Add(10 * time.Second))
			_, err = io.ReadFull(c, one)
			c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: ports must not run out
			c.Close()
			if err != nil {
				return err
			}
			took = append(took, time.Since(start))
		}
		return nil
	})
	return took, err
}

func send(ctx context.Context, addr string, length time.Duration) (perSecond float64, err error) {
	err = bed.Within("client", func() error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		start, sent, buf := time.Now(), 0, make([]byte, 256<<10)
		for time.Since(start) < length {
			n, err := c.Write(buf)
			if err != nil {
				return err
			}
			sent += n
		}
		perSecond = float64(sent) / time.Since(start).Seconds()
		return nil
	})
	return perSecond, err
}
