package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

func addrOf(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)}), 7947)
}

func testKey(b byte) keyring.Key { return keyring.Key{ID: uint32(b), Secret: [keyring.Size]byte{b}} }

// cluster runs members node-1 to node-n on a fake network.
type cluster struct {
	t       *testing.T
	net     *network
	members map[int]*member
	lost    atomic.Bool // the directory of peers does not answer
	slow    atomic.Bool // it fails after a while, and its peers are those known from before
}

type member struct {
	*Gossip
	stop    func()
	changed atomic.Int64
}

func newCluster(t *testing.T, n int) *cluster {
	c := &cluster{t: t, net: newNetwork(), members: map[int]*member{}}
	var runs []func()
	for i := 1; i <= n; i++ {
		runs = append(runs, c.prepare(i, n))
	}
	for _, run := range runs { // none before all can be reached
		run()
	}
	return c
}

func (c *cluster) start(i, n int) *member {
	c.t.Helper()
	c.prepare(i, n)()
	return c.members[i]
}

// prepare makes a member that others can reach, and returns what starts it.
func (c *cluster) prepare(i, n int) (run func()) {
	c.t.Helper()
	m := &member{}
	g, err := New(Options{
		Node: lb.NodeName(fmt.Sprintf("node-%d", i)), Bind: addrOf(i), Keys: []keyring.Key{testKey(7)}, Log: slog.New(slog.DiscardHandler),
		Changed: func() { m.changed.Add(1) }, Transport: c.net.newHost(addrOf(i)),
		Peers: func(context.Context) (out []netip.AddrPort, err error) {
			if c.lost.Load() {
				return nil, context.DeadlineExceeded
			}
			for j := 1; j <= n; j++ {
				out = append(out, addrOf(j))
			}
			if c.slow.Load() {
				time.Sleep(3 * time.Second) // of the bubble's time
				err = context.DeadlineExceeded
			}
			return out, err
		},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	m.Gossip = g
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("Run of node-%d: %v", i, err)
		}
	})
	c.members[i] = m
	return func() { go func() { done <- g.Run(ctx) }() }
}

func (c *cluster) stopAll() {
	for _, m := range c.members {
		m.stop()
	}
	time.Sleep(time.Minute) // memberlist's probes and suspicions end by their timers only
}

// view prints what node i knows: each member, with the epochs of its claims.
func (c *cluster) view(i int) string {
	var out []string
	for _, m := range c.members[i].Members() {
		s := string(m.Node)
		for _, claim := range m.Claims {
			s += fmt.Sprintf("/%d", claim.Epoch)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// within waits until all of the nodes see want and returns how long it took.
func (c *cluster) within(limit time.Duration, want string, nodes ...int) time.Duration {
	c.t.Helper()
	start := time.Now()
	for {
		wrong := slices.IndexFunc(nodes, func(i int) bool { return c.view(i) != want })
		if wrong < 0 {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			c.t.Fatalf("after %s node-%d sees %q, want %q", limit, nodes[wrong], c.view(nodes[wrong]), want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func claims(epoch uint64) lb.Member {
	return lb.Member{Ready: true, Claims: []lb.Claim{{Addr: netip.MustParseAddr("192.0.2.200"), Epoch: epoch}}}
}

func inBubble(t *testing.T, n int, script func(t *testing.T, c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, n)
		defer c.stopAll()
		script(t, c)
	})
}

func TestMembersAndTheirRecords(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		c.within(2*time.Second, "node-1 node-2 node-3", 1, 2, 3)
		c.members[2].SetSelf(claims(5))
		took := c.within(time.Second, "node-1 node-2/5 node-3", 1, 2, 3)
		t.Logf("a change reached everybody after %s", took)
		if took > 10*time.Millisecond {
			t.Errorf("a change took %s", took)
		}
		before := c.members[1].changed.Load()
		c.members[2].SetSelf(claims(5))
		time.Sleep(time.Minute)
		if got := c.members[1].changed.Load(); got != before {
			t.Errorf("%d notifications without news", got-before)
		}
	})
}

// Two that start beside an owner reach each other at once, and the owner later: they must not divide its addresses meanwhile.
func TestNewMembersWaitForTheOwner(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		c.within(6*time.Second, "node-1", 1)
		c.members[1].SetSelf(claims(5))
		c.net.setSlow(map[netip.AddrPort]time.Duration{addrOf(1): 300 * time.Millisecond})
		for i := 2; i <= 3; i++ {
			c.start(i, 3)
		}
		for range 1000 {
			for i := 2; i <= 3; i++ {
				if got := c.view(i); got != "" && !strings.HasPrefix(got, "node-1/5 ") {
					t.Fatalf("node-%d sees %q and not what node-1 has", i, got)
				}
			}
			time.Sleep(time.Millisecond)
		}
		c.within(0, "node-1/5 node-2 node-3", 1, 2, 3)
	})
}

func TestAloneOnlyIfTheDirectorySaysSo(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		c.within(100*time.Millisecond, "node-1", 1)
	})
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 0)
		defer c.stopAll()
		c.start(1, 3) // its peers are dead
		time.Sleep(4 * time.Second)
		if got := c.view(1); got != "" {
			t.Errorf("sees %q before it has looked for its peers", got)
		}
		c.within(6*time.Second, "node-1", 1)
	})
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 0)
		defer c.stopAll()
		c.lost.Store(true)
		c.start(1, 3)
		time.Sleep(time.Minute)
		if got := c.view(1); got != "" {
			t.Errorf("sees %q although it never heard of any peer", got)
		}
	})
}

func TestDeathIsNoticed(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, n, func(t *testing.T, c *cluster) {
				var all, rest []int
				var before, after []string
				for i := 1; i <= n; i++ {
					all, before = append(all, i), append(before, fmt.Sprintf("node-%d", i))
					if i != 2 {
						rest, after = append(rest, i), append(after, fmt.Sprintf("node-%d", i))
					}
				}
				c.within(5*time.Second, strings.Join(before, " "), all...)
				time.Sleep(10 * time.Second)
				c.net.setCut(func(from, _ netip.AddrPort) bool { return from == addrOf(2) })
				took := c.within(2*time.Second, strings.Join(after, " "), rest...)
				t.Logf("%d members: the last one noticed after %s", n, took)
			})
		})
	}
}

func TestGoodbyeIsFast(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		c.within(2*time.Second, "node-1 node-2 node-3", 1, 2, 3)
		go c.members[2].stop()
		t.Logf("noticed after %s", c.within(time.Second, "node-1 node-3", 1, 3))
		time.Sleep(5 * time.Second)
		c.start(2, 3).SetSelf(claims(1))
		c.within(2*time.Second, "node-1 node-2/1 node-3", 1, 2, 3)
	})
}

func TestPartitionHeals(t *testing.T) {
	for _, length := range []time.Duration{10 * time.Second, 20 * time.Minute} {
		t.Run(length.String(), func(t *testing.T) {
			inBubble(t, 3, func(t *testing.T, c *cluster) {
				c.members[1].SetSelf(claims(1))
				c.within(2*time.Second, "node-1/1 node-2 node-3", 1, 2, 3)
				c.net.setCut(func(from, to netip.AddrPort) bool { return from == addrOf(1) })
				c.within(5*time.Second, "node-1/1", 1)
				c.within(5*time.Second, "node-2 node-3", 2, 3)
				c.members[2].SetSelf(claims(2))
				if c.members[1].UpToDate(time.Now()) {
					t.Error("up to date although cut off")
				}
				c.lost.Store(true) // they find each other without the directory
				time.Sleep(length)
				c.net.setCut(nil)
				time.Sleep(time.Millisecond)
				healed := time.Now().Add(-time.Millisecond)
				c.members[1].Rejoin()
				for !c.members[1].UpToDate(healed) {
					time.Sleep(time.Millisecond)
				}
				if got := c.view(1); got != "node-1/1 node-2/2 node-3" {
					t.Errorf("up to date after %s, but sees %q", time.Since(healed), got)
				}
				took := c.within(2*time.Second, "node-1/1 node-2/2 node-3", 1, 2, 3)
				t.Logf("after %s together again in %s", length, took)
			})
		})
	}
}

func TestAbruptRestart(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		c.members[2].SetSelf(claims(9))
		c.within(2*time.Second, "node-1 node-2/9 node-3", 1, 2, 3)
		old := c.members[2]
		c.net.setCut(func(from, to netip.AddrPort) bool { return from == addrOf(2) || to == addrOf(2) })
		old.stop() // its goodbye is lost
		c.net.setCut(nil)
		c.start(2, 3) // a new process claims nothing
		took := c.within(3*time.Second, "node-1 node-2 node-3", 1, 2, 3)
		t.Logf("the old claim was gone after %s", took)
	})
}

// TestFoundBeforeItLooked: the others find a new process before it knows where they are.
func TestFoundBeforeItLooked(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *cluster) {
		c.within(2*time.Second, "node-1 node-2 node-3", 1, 2, 3)
		c.slow.Store(true)
		c.net.setCut(func(from, to netip.AddrPort) bool { return from == addrOf(2) || to == addrOf(2) })
		c.members[2].stop()
		c.within(10*time.Second, "node-1 node-3", 1, 3)
		c.net.setCut(nil)
		c.start(2, 3)
		time.Sleep(100 * time.Millisecond) // of the bubble's time: it is asking for its peers
		c.members[1].Rejoin()
		c.members[3].Rejoin()
		took := c.within(10*time.Second, "node-1 node-2 node-3", 1, 2, 3)
		t.Logf("all knew each other after %s", took)
	})
}

func TestStrangersAreNotHeard(t *testing.T) {
	inBubble(t, 2, func(t *testing.T, c *cluster) {
		c.within(2*time.Second, "node-1 node-2", 1, 2)
		g, err := New(Options{Node: "mallory", Bind: addrOf(9), Keys: []keyring.Key{testKey(8)}, Log: slog.New(slog.DiscardHandler), Changed: func() {},
			Transport: c.net.newHost(addrOf(9)), Peers: func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{addrOf(1), addrOf(2)}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
		c.within(0, "node-1 node-2", 1, 2)
	})
}
