//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/cluster"
	"github.com/fairlead-lb/fairlead/test/probe"
)

// cleanupContext is for cleanups: the test's own context has ended by then.
func cleanupContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute*cluster.Slow())
	t.Cleanup(cancel)
	return ctx
}

// burst opens 20 connections, one each 20 ms.
func burst(t *testing.T, target netip.AddrPort, path string) probe.Report {
	t.Helper()
	r, err := lab.HTTP(t.Context(), target, path, 20*time.Millisecond, 400*time.Millisecond)
	must(t, err)
	return r
}

// answers waits until every connection of a burst to the address is answered.
func answers(t *testing.T, target netip.AddrPort) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		r, err := lab.HTTP(t.Context(), target, "/hostname", 20*time.Millisecond, 400*time.Millisecond)
		if err == nil && (r.Failed > 0 || r.OK == 0) {
			err = fmt.Errorf("%d of %d connections to %s failed: %v", r.Failed, r.Attempts, target, r.Errors)
		}
		return err
	})
}

// silent waits until no connection to the address is answered.
func silent(t *testing.T, target netip.AddrPort) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		r, err := lab.HTTP(t.Context(), target, "/hostname", 50*time.Millisecond, 300*time.Millisecond)
		if err == nil && r.OK > 0 {
			err = fmt.Errorf("%s still answers: %v", target, r.Answers)
		}
		return err
	})
}

// owner waits until exactly one node answers ARP for the address and returns it.
func owner(t *testing.T, addr netip.Addr) string {
	t.Helper()
	var node string
	eventually(t, 20*time.Second, func() (err error) {
		node, _, err = lab.OwnerOf(t.Context(), addr, nodes)
		return err
	})
	return node
}

// meanwhile opens connections in the background and returns a function that waits for the report.
func meanwhile(t *testing.T, target netip.AddrPort, interval, length time.Duration) func() probe.Report {
	t.Helper()
	var report probe.Report
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		report, err = lab.HTTP(t.Context(), target, "/hostname", interval*cluster.Slow(), length*cluster.Slow())
	}()
	return func() probe.Report {
		t.Helper()
		<-done
		must(t, err)
		return report
	}
}
