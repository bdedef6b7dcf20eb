//go:build wire

package wire

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/bfd"
	"github.com/fairlead-lb/fairlead/test/bed"
)

// soon bounds what takes a fraction of a second on a machine with time.
const soon = 2 * time.Second

func TestOnlyTheOwnerAnswers(t *testing.T) {
	l, owners := startAll(t, group(3))
	for addr, owner := range owners {
		if got, ok := l.onlyAnswers(owner, addr, 100*time.Millisecond); !ok {
			t.Errorf("%s: nodes %v answer, want %d", addr, got, owner)
		}
	}
	for _, addr := range []netip.Addr{bed.VIP(vips), bed.VIP6(vips), bed.Host(250), bed.Host6(250)} {
		if got := l.Answers(addr, 300*time.Millisecond); len(got) != 0 {
			t.Errorf("nodes %v answer for %s, which no Service has", got, addr)
		}
	}
}

// TestOwnerLost: whatever takes an address's owner away, one of the others takes over in both families, nothing else moves, and the
// owner's return moves nothing back.
func TestOwnerLost(t *testing.T) {
	for _, tc := range []struct {
		name      string
		heartbeat time.Duration
		cause     bfd.Cause     // why the heartbeats of the others ended; "" = there are none
		limit     time.Duration // until the client's kernel has another neighbour
		lose      func(l lan, i int)
		restore   func(l lan, i int)
	}{
		{"power", 50 * time.Millisecond, bfd.CauseDetectionExpired, soon, cut, start},
		{"power, memberlist alone", 0, "", 10 * time.Second, cut, start},
		{"process killed", 50 * time.Millisecond, bfd.CauseRefused, soon, func(l lan, i int) { l.End(i, syscall.SIGKILL) }, speak},
		{"process ended", 50 * time.Millisecond, bfd.CausePeerAdminDown, time.Second, func(l lan, i int) { l.Signal(i, syscall.SIGTERM) },
			func(l lan, i int) { l.End(i, syscall.SIGTERM); l.Speak(i) }},
		{"cable", 50 * time.Millisecond, bfd.CauseDetectionExpired, soon, func(l lan, i int) { l.Plug(i, false) },
			func(l lan, i int) { time.Sleep(3 * time.Second); l.Plug(i, true) }}, // its memberlist has given the others up by then
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := group(3)
			for i := range g {
				g[i].Heartbeat = tc.heartbeat
			}
			l, owners := startAll(t, g)
			addrs, owner := l.pair(owners)
			l.learn(addrs...)
			begin := time.Now()
			tc.lose(l, owner)
			heirs := l.moved(addrs, owner, begin, tc.limit)
			if tc.cause != "" {
				l.heartbeatsSay(tc.cause, owner)
			}
			after := l.settled(owner)
			for a, before := range owners {
				if heir, moved := heirs[a]; before != owner && after[a] != before || moved && after[a] != heir {
					t.Errorf("%s was at node %d when node %d was lost, then at node %d, and now at %d", a, before, owner, heir, after[a])
				}
			}
			tc.restore(l, owner)
			if back := l.settled(); !maps.Equal(back, after) {
				t.Errorf("the return of node %d moved addresses: %v, then %v", owner, after, back)
			}
			if back := l.owners(); !maps.Equal(back, after) {
				t.Errorf("the return of node %d changed who answers: %v, then %v", owner, after, back)
			}
			for a, heir := range heirs {
				if got := l.Neighbour(a); got != heir {
					t.Errorf("the client's kernel sends packets for %s to node %d, want %d", a, got, heir)
				}
			}
		})
	}
}

func cut(l lan, i int)   { l.Cut(i) }
func speak(l lan, i int) { l.Speak(i) }
func start(l lan, i int) { l.Remove(i); l.Start(l.group[i-1]) }

// heartbeatsSay waits until one of the others has recorded why its session with node i ended.
func (l lan) heartbeatsSay(cause bfd.Cause, i int) {
	l.t.Helper()
	line := fmt.Sprintf(`fairlead_bfd_transitions_total{cause=%q,group="heartbeat",state=%q}`, cause, bfd.Down)
	eventually(l.t, "a heartbeat ended because of "+string(cause), soon, func() bool {
		return slices.ContainsFunc(others(l.group, i), func(j int) bool { return strings.Contains(l.Metrics(j), line) })
	})
}

// TestAnOwnerThatSleptKeepsSilent: the owner of addresses is stopped while a client keeps asking for them. When it wakes up with
// the questions of the whole time before it, others have taken over, and it says nothing.
func TestAnOwnerThatSleptKeepsSilent(t *testing.T) {
	l, owners := startAll(t, group(3))
	for _, sleep := range []time.Duration{500 * time.Millisecond, 3 * time.Second} {
		_, owner := l.pair(owners)
		var addrs []netip.Addr
		for a, i := range owners {
			if i == owner {
				addrs = append(addrs, a)
			}
		}
		c := l.Capture()
		l.ask(300*time.Millisecond, addrs...)
		slept := time.Now()
		l.Signal(owner, syscall.SIGSTOP)
		l.ask(sleep, addrs...)
		woke := time.Now()
		l.Signal(owner, syscall.SIGCONT)
		l.ask(soon, addrs...)
		claims := c.Stop()
		owners = l.settled()
		for _, a := range addrs {
			heir := slices.IndexFunc(claims, func(c bed.Claim) bool { return c.Addr == a && c.Node != owner })
			if heir < 0 || !claims[heir].At.Before(woke) {
				t.Errorf("nobody took %s over within %s", a, sleep)
				continue
			}
			stale := 0
			for _, c := range claims {
				if c.Addr == a && c.Node == owner && c.At.After(woke) {
					stale++
				}
			}
			t.Logf("asleep for %s: %s taken over by node %d after %s, %d stale packets from node %d", sleep, a, claims[heir].Node, claims[heir].At.Sub(slept).Round(time.Millisecond), stale, owner)
			if stale > 0 || owners[a] != claims[heir].Node {
				t.Errorf("%s: node %d sent %d packets after it woke up, node %d owns the address now", a, owner, stale, owners[a])
			}
		}
	}
}

// TestPartition: while the segment is split either part serves all addresses; when it is whole again, each has one owner soon.
func TestPartition(t *testing.T) {
	g := group(4)
	g[2].Far, g[3].Far = true, true
	l, _ := startAll(t, g)
	l.learn(addresses()...)
	l.Trunk(false)
	near := l.settled(3, 4)
	l.settled(1, 2)
	if got := l.owners(); !maps.Equal(got, near) {
		t.Errorf("the client hears %v, the speakers on its side say %v", got, near)
	}
	c := l.Capture()
	healed := time.Now()
	l.Trunk(true)
	l.ask(2*soon, addresses()...)
	owners := l.settled()
	claims := c.Stop()
	for _, a := range addresses() {
		var last time.Time // of those who do not own it
		for _, c := range claims {
			if c.Addr == a && c.Node != owners[a] && c.At.After(healed) {
				last = c.At
			}
		}
		if last.After(healed.Add(soon)) {
			t.Errorf("%s had two owners for %s", a, last.Sub(healed))
		}
		if !last.IsZero() {
			t.Logf("%s had two owners for %s", a, last.Sub(healed).Round(time.Millisecond))
		}
		eventually(t, "the client's kernel sends packets for "+a.String()+" to the owner", soon, func() bool { return l.Neighbour(a) == owners[a] })
	}
	if got := l.owners(); !maps.Equal(got, owners) {
		t.Errorf("nodes %v answer, want %v", got, owners)
	}
}
