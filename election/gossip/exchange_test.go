package gossip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

// many claims n addresses, each with the given epoch.
func many(n int, epoch uint64) lb.Member {
	m := lb.Member{Ready: true}
	for i := range n {
		m.Claims = append(m.Claims, lb.Claim{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Epoch: epoch})
	}
	return m
}

func (c *cluster) record(i int, of lb.NodeName) lb.Member {
	for _, m := range c.members[i].Members() {
		if m.Node == of {
			return m
		}
	}
	return lb.Member{}
}

// until waits for ok and returns how long it took.
func until(t *testing.T, limit time.Duration, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			t.Fatalf("not within %s", limit)
		}
		time.Sleep(100 * time.Microsecond)
	}
	return time.Since(start)
}

func TestUrgentNews(t *testing.T) {
	for _, tc := range []struct {
		name, only string
		claims     int
		limit      time.Duration
	}{
		{"small record", "", 1, time.Millisecond},
		{"large record", "", 5000, time.Millisecond},
		{"small record, connections hang", "udp", 1, time.Millisecond},
		{"large record, connections hang", "udp", 5000, time.Millisecond},
		{"large record, datagrams are lost", "tcp", 5000, 2 * sendRest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, c *cluster) {
				c.within(2*time.Second, "node-1 node-2 node-3", 1, 2, 3)
				m := many(tc.claims, 1)
				c.members[1].SetSelf(m)
				until(t, 2*time.Second, func() bool { return len(c.record(2, "node-1").Claims)+len(c.record(3, "node-1").Claims) == 2*tc.claims })
				time.Sleep(sendRest)
				c.net.setOnly(tc.only)
				defer c.net.setOnly("")
				for i := range 4 { // in quick succession: all but the first find the connections resting
					m = many(tc.claims, 1)
					m.Claims[0].Epoch = uint64(i + 2)
					m.Suspects = []lb.NodeName{"node-3"}
					c.members[1].SetSelf(m)
					took := until(t, tc.limit, func() bool {
						return c.record(2, "node-1").Claims[0].Epoch == uint64(i+2) && c.record(3, "node-1").Claims[0].Epoch == uint64(i+2)
					})
					if d := cmp.Diff([]lb.NodeName{"node-3"}, c.record(2, "node-1").Suspects); d != "" {
						t.Errorf("suspects (-want +got):\n%s", d)
					}
					t.Logf("change %d was everywhere after %s", i, took)
				}
			})
		})
	}
}

func TestKnown(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, c *cluster) {
		c.within(2*time.Second, "node-1 node-2 node-3 node-4", 1, 2, 3, 4)
		c.net.setCut(func(from, _ netip.AddrPort) bool { return from == addrOf(2) }) // loses power
		c.members[3].stop()                                                          // says goodbye
		c.within(5*time.Second, "node-1 node-4", 1, 4)
		want := map[lb.NodeName]netip.Addr{"node-2": addrOf(2).Addr(), "node-4": addrOf(4).Addr()}
		if d := cmp.Diff(want, c.members[1].Known(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("known (-want +got):\n%s", d)
		}
	})
}

// The heartbeat notices that the network is whole again and calls Rejoin on every member.
func TestRejoinIsFast(t *testing.T) {
	const n = 6
	for _, length := range []time.Duration{3 * time.Second, time.Minute} {
		t.Run(length.String(), func(t *testing.T) {
			inBubble(t, n, func(t *testing.T, c *cluster) {
				var names []string
				for i := range n {
					names = append(names, fmt.Sprintf("node-%d", i+1))
				}
				c.within(2*time.Second, strings.Join(names, " "), 1, 2, 3, 4, 5, 6)
				left := func(a netip.AddrPort) bool { return a == addrOf(1) || a == addrOf(2) || a == addrOf(3) }
				c.net.setCut(func(from, to netip.AddrPort) bool { return left(from) != left(to) })
				c.within(5*time.Second, "node-1 node-2 node-3", 1, 2, 3)
				c.within(5*time.Second, "node-4 node-5 node-6", 4, 5, 6)
				c.lost.Store(true)
				time.Sleep(length)
				c.net.setCut(nil)
				start := time.Now()
				for i := 1; i <= n; i++ {
					c.members[i].Rejoin()
				}
				c.within(2*time.Second, strings.Join(names, " "), 1, 2, 3, 4, 5, 6)
				took := time.Since(start)
				t.Logf("after %s together again in %s", length, took)
				if took > 100*time.Millisecond {
					t.Errorf("it took %s to be together again", took)
				}
			})
		})
	}
}

// The heartbeats say that a partition has healed, and the network loses the first SYN of each exchange: TCP repeats it after a second.
func TestRejoinDespiteALostSYN(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, c *cluster) {
		c.within(2*time.Second, "node-1 node-2", 1, 2)
		c.lost.Store(true)
		c.net.setCut(func(_, _ netip.AddrPort) bool { return true })
		c.within(5*time.Second, "node-1", 1)
		c.within(5*time.Second, "node-2", 2)
		time.Sleep(10 * time.Second) // the exchanges that were under way have failed
		c.net.setCut(nil)
		c.net.setSlow(map[netip.AddrPort]time.Duration{addrOf(1): time.Second, addrOf(2): time.Second})
		c.members[1].Rejoin()
		c.members[2].Rejoin()
		time.Sleep(time.Millisecond)
		c.net.setSlow(nil)
		if took := c.within(2*time.Second, "node-1 node-2", 1, 2); took > 2*retryRest {
			t.Errorf("it took %s to be together again", took)
		}
	})
}

// A member that was asleep asks the living, whoever is missing; one of them that cannot be reached holds up nothing.
func TestRejoinBringsUpToDate(t *testing.T) {
	inBubble(t, 4, func(t *testing.T, c *cluster) {
		c.within(2*time.Second, "node-1 node-2 node-3 node-4", 1, 2, 3, 4)
		dead := func(from, to netip.AddrPort) bool { return from == addrOf(4) || to == addrOf(4) }
		c.net.setCut(dead)
		c.within(10*time.Second, "node-1 node-2 node-3", 1, 2, 3)
		time.Sleep(time.Second) // the exchanges that were under way are over
		woke := time.Now()
		time.Sleep(time.Second) // a change or two might arrive
		c.members[3].SetSelf(claims(3))
		time.Sleep(time.Second)
		if c.members[1].UpToDate(woke) {
			t.Error("up to date by news that nobody has asked for")
		}
		c.net.setCut(func(from, to netip.AddrPort) bool { return dead(from, to) || from == addrOf(1) && to == addrOf(3) })
		c.members[3].SetSelf(claims(4))
		time.Sleep(10 * time.Millisecond)
		c.members[1].Rejoin()
		until(t, 10*time.Millisecond, func() bool { return c.members[1].UpToDate(woke) })
		if got := c.view(1); got != "node-1 node-2 node-3/4" {
			t.Errorf("after the exchange sees %q", got)
		}
	})
}
