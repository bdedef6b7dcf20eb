package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

// cable is real sockets, whose outgoing packets and connections get lost while it is cut.
type cable struct {
	*guard
	cut *atomic.Bool
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (c cable) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	if c.cut.Load() {
		return time.Now(), nil
	}
	return c.guard.WriteToAddress(b, to)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (c cable) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if c.cut.Load() {
		time.Sleep(timeout)
		return nil, errors.New("dial timeout")
	}
	return c.guard.DialAddressTimeout(to, timeout)
}

// On real sockets: three members lose each other altogether, and are together again soon after the heartbeat calls Rejoin.
func TestRejoinOnRealSockets(t *testing.T) {
	const n = 3
	var cut atomic.Bool
	var all []*Gossip
	var peers []netip.AddrPort
	for i := range n {
		peers = append(peers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 72, byte(1 + i)}), 17949))
	}
	for i, addr := range peers {
		g, err := newGuard(addr, io.Discard, func(a netip.Addr) bool { return slices.Contains(peers, netip.AddrPortFrom(a, addr.Port())) })
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(Options{Node: lb.NodeName(fmt.Sprintf("node-%d", i)), Bind: addr, Keys: []keyring.Key{testKey(7)}, Log: slog.New(slog.DiscardHandler),
			Changed: func() {}, Transport: cable{g, &cut}, ProbeInterval: 50 * time.Millisecond,
			Peers: func(context.Context) ([]netip.AddrPort, error) { return peers, nil }})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			g.close()
		})
	}
	see := func(want int) func() bool {
		return func() bool {
			return !slices.ContainsFunc(all, func(g *Gossip) bool { return len(g.Members()) != want })
		}
	}
	t.Logf("together after %s", until(t, 20*time.Second, see(n)))
	cut.Store(true)
	t.Logf("apart after %s", until(t, 20*time.Second, see(1)))
	cut.Store(false)
	for _, g := range all {
		if len(g.Known()) != n-1 {
			t.Errorf("after the partition knows %v", g.Known())
		}
		g.Rejoin()
	}
	t.Logf("together again after %s", until(t, 20*time.Second, see(n)))
}

// A hundred members that hang cost one goroutine each, however often something changes, and do not delay the one that lives.
func TestManyDeadMembersDelayNobody(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, c *cluster) {
		c.within(2*time.Second, "node-1 node-2", 1, 2)
		time.Sleep(time.Second)
		g := c.members[1]
		g.mu.Lock()
		for i := range 100 {
			g.table.join(lb.NodeName(fmt.Sprintf("silent-%d", i)), netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 7947))
		}
		g.mu.Unlock()
		c.net.setCut(func(_, to netip.AddrPort) bool { return to.Addr().As4()[0] == 198 })
		most := 0
		for epoch := range uint64(50) {
			g.SetSelf(claims(epoch + 1))
			until(t, time.Millisecond, func() bool { return c.record(2, "node-1").Claim(netip.MustParseAddr("192.0.2.200")) == epoch+1 })
			time.Sleep(10 * time.Millisecond)
			most = max(most, sending())
		}
		if most < 100 || most > 101 { // the last one brings node-2 what is new
			t.Errorf("%d goroutines send at the same time, of 100 members that hang and one that lives", most)
		}
		g.mu.Lock()
		for i := range 100 {
			delete(g.table.alive, lb.NodeName(fmt.Sprintf("silent-%d", i)))
		}
		g.mu.Unlock()
	})
}

// sending counts the goroutines that bring a record to a member.
func sending() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Count(stacks, []byte("gossip.(*Gossip).send("))
}
