//go:build wire

package wire

import (
	"maps"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

// The speakers under test, and their addresses.
const (
	nodes = 3
	vips  = 6
)

func options(i int) bed.NodeOptions {
	return bed.NodeOptions{Number: i, Peers: []int{1, 2, nodes}, VIPs: vips, Heartbeat: 50 * time.Millisecond}
}

type lan struct{ *bed.LAN }

// owners waits until every address is answered for by exactly one node and returns who that is.
func (l lan) owners(limit time.Duration) map[netip.Addr]int {
	var addrs []netip.Addr
	for i := range vips {
		addrs = append(addrs, bed.VIP(i))
	}
	return l.Owners(limit, addrs...)
}

// startAll starts all speakers and returns who owns what once they agree.
func startAll(t *testing.T) (lan, map[netip.Addr]int) {
	t.Helper()
	l := lan{bed.New(t)}
	for i := 1; i <= nodes; i++ {
		l.Start(options(i))
	}
	time.Sleep(3 * time.Second) // they find each other, and the first ones share with the later ones
	owners := l.owners(10 * time.Second)
	t.Logf("owners: %v", owners)
	return l, owners
}

func TestOnlyTheOwnerAnswers(t *testing.T) {
	l, owners := startAll(t)
	for addr, owner := range owners {
		if got := l.Answers(addr, 300*time.Millisecond); len(got) != 1 || got[0] != owner {
			t.Errorf("%s: nodes %v answer, want %d", addr, got, owner)
		}
	}
	if got := l.Answers(bed.Host(250), 300*time.Millisecond); len(got) != 0 {
		t.Errorf("nodes %v answer for an address that no Service has", got)
	}
}

func TestPowerLossMovesTheNeighbourEntry(t *testing.T) {
	l, owners := startAll(t)
	addr := bed.VIP(0)
	owner := owners[addr]
	l.Learn(addr)
	l.Cut(owner)
	heir, took := l.Moves(addr, owner, 4*time.Second)
	t.Logf("node %d died, the client's kernel sent to node %d after %s", owner, heir, took.Round(time.Millisecond))
	after := l.owners(5 * time.Second)
	for a, before := range owners {
		if before != owner && after[a] != before {
			t.Errorf("%s moved from %d to %d although node %d died", a, before, after[a], owner)
		}
	}
	l.Remove(owner)
	l.Start(options(owner))
	time.Sleep(3 * time.Second)
	if back := l.owners(5 * time.Second); !maps.Equal(back, after) {
		t.Errorf("the return of node %d moved addresses: %v, then %v", owner, after, back)
	}
}

func TestGoodbyeHandsOver(t *testing.T) {
	l, owners := startAll(t)
	addr := bed.VIP(0)
	owner := owners[addr]
	l.Learn(addr)
	done := make(chan struct{})
	start := time.Now()
	go func() { l.End(owner, syscall.SIGTERM); close(done) }()
	heir, took := l.Moves(addr, owner, 4*time.Second)
	<-done
	t.Logf("node %d left, the client's kernel sent to node %d after %s, the process ended after %s", owner, heir, took.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	if took > time.Second {
		t.Errorf("a handover took %s", took)
	}
	l.owners(5 * time.Second)
}

func TestPulledCableMovesTheAddressAndTheReturnDoesNot(t *testing.T) {
	l, owners := startAll(t)
	addr := bed.VIP(0)
	owner := owners[addr]
	l.Learn(addr)
	l.Plug(owner, false)
	heir, took := l.Moves(addr, owner, 4*time.Second)
	t.Logf("the cable of node %d was pulled, the client's kernel sent to node %d after %s", owner, heir, took.Round(time.Millisecond))
	time.Sleep(3 * time.Second)
	l.Plug(owner, true)
	time.Sleep(3 * time.Second)
	if got := l.owners(10 * time.Second)[addr]; got != heir {
		t.Errorf("%s is at node %d after the return of node %d, want %d still", addr, got, owner, heir)
	}
	if got := l.Neighbour(addr); got != heir {
		t.Errorf("the client's kernel sends to node %d, want %d", got, heir)
	}
}
