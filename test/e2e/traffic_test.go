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

// outlived fails the test if a connection of the report failed, whether it did not come about or was open when the address, or one of its
// paths, moved.
func outlived(t *testing.T, r probe.Report) {
	t.Helper()
	t.Logf("%d connections, %d failed, longest gap %.0f ms", r.Attempts, r.Failed, r.LongestGap)
	if r.Failed > 0 || r.OK == 0 {
		t.Errorf("want none that failed: %+v", r)
	}
}

// aftermath is how long meanwhile goes on after it was told to end: what the last change still breaks shows.
const aftermath = 2 * time.Second

// meanwhile opens connections in the background until the function that it returns is called, at least for the given time, and a little
// longer. The function returns the report.
func meanwhile(t *testing.T, target netip.AddrPort, interval, least time.Duration) func() probe.Report {
	t.Helper()
	start := time.Now()
	stop, err := lab.Connect(t.Context(), target, "/hostname", interval*cluster.Slow())
	must(t, err)
	return func() probe.Report {
		t.Helper()
		time.Sleep(max(aftermath*cluster.Slow(), time.Until(start.Add(least*cluster.Slow()))))
		report, err := stop()
		must(t, err)
		return report
	}
}
