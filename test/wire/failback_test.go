//go:build wire

package wire

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
	"github.com/fairlead-lb/fairlead/test/probe"
)

// TestFailback: a node whose speaker was away gets its share back, a while after it is there again, and no new connection fails.
func TestFailback(t *testing.T) {
	g := group(3)
	for i := range g {
		g[i].Failback = 2 * time.Second
	}
	l, owners := startAll(t, g)
	node := owners[bed.VIP(0)]
	l.End(node, syscall.SIGTERM)
	for a, i := range l.settled(node) {
		if i == node {
			t.Fatalf("%s is still at node %d", a, node)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	reports := make([]probe.Report, 2*vips)
	for i, a := range addresses() {
		clients.Go(func() {
			reports[i] = probe.Repeat(ctx, probe.TCP(bed.Service(a)), 50*time.Millisecond, 3*time.Second, time.Hour)
		})
	}
	l.Speak(node)
	l.settled()
	begun := time.Now()
	share := func() (n int) {
		for _, i := range l.settled() {
			if i == node {
				n++
			}
		}
		return n
	}
	eventually(t, "the node has addresses again", 20*time.Second, func() bool { return share() > 1 })
	if d := time.Since(begun); d < time.Second {
		t.Errorf("they came back after %s, before the node was steady for 2 s", d)
	}
	time.Sleep(time.Second) // what the moves have broken shows
	after := l.settled()
	cancel()
	clients.Wait()
	attempts := 0
	for _, r := range reports {
		attempts += r.OK
		for text, n := range r.Errors {
			t.Errorf("%d new connections failed: %s", n, text)
		}
	}
	t.Logf("%d new connections while addresses moved: %v", attempts, after)
	for a, i := range l.owners() {
		if after[a] != i {
			t.Errorf("node %d answers for %s of node %d", i, a, after[a])
		}
	}
}
