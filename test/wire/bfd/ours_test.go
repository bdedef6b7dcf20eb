//go:build wire

package bfd

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/bfd"
	"github.com/fairlead-lb/fairlead/bfd/udp"
)

// pair is a heartbeat between this process and another one in a namespace of its own.
func pair(t *testing.T) (*host, *process, *group, udp.Peer) {
	t.Helper()
	h := link(t)
	p := udp.Peer{Local: us4, Remote: near4}
	g := start(t, udp.Options{Port: port, Aligned: true, Refused: true}, map[udp.Peer]udp.Config{p: heartbeat()})
	other := startPeer(h, peerConfig{Local: near4, Remotes: []netip.Addr{us4}})
	g.next(p, bfd.Up, time.Time{})
	return h, other, g, p
}

// TestAStoppedPeer: whoever is stopped is called down, knows it before anybody else in its process, and comes back.
func TestAStoppedPeer(t *testing.T) {
	_, other, g, p := pair(t)
	for _, d := range []time.Duration{200 * ms, 500 * ms, 3 * time.Second} {
		time.Sleep(time.Second)
		now := time.Now()
		other.signal(syscall.SIGSTOP)
		time.Sleep(d)
		woken := time.Now()
		other.signal(syscall.SIGCONT)
		report(t, fmt.Sprintf("stopped for %s", d), g.next(p, bfd.Down, now), now, bfd.CauseDetectionExpired)
		up := g.next(p, bfd.Up, now)
		until(t, "the stopped one noticing its sleep", func() bool { return other.count("Slept", woken) > 0 })
		until(t, "the stopped one confirmed again", func() bool { return other.count("Confirmed", woken) > 0 })
		t.Logf("  up again %s after it was continued", up.At.Sub(woken).Round(ms/10))
	}
}

// TestWidening: a peer that is called down and was back at once has its intervals doubled, at both ends, and is not called down by
// the same pause again.
func TestWidening(t *testing.T) {
	h := link(t)
	p := udp.Peer{Local: us4, Remote: near4}
	g := start(t, udp.Options{Port: port, Aligned: true, Batched: true, Widen: true}, map[udp.Peer]udp.Config{p: heartbeat()})
	other := startPeer(h, peerConfig{Local: near4, Remotes: []netip.Addr{us4}})
	g.next(p, bfd.Up, time.Time{})
	before := g.Sessions()[p]
	stop := func(d time.Duration) {
		other.signal(syscall.SIGSTOP)
		time.Sleep(d)
		other.signal(syscall.SIGCONT)
	}
	now := time.Now()
	stop(before.DetectionTime + 50*ms)
	g.next(p, bfd.Down, now)
	g.next(p, bfd.Up, now)
	until(t, "twice as patient", func() bool {
		s := g.Sessions()[p]
		return s.Factor == 2 && s.TxInterval == 2*before.TxInterval && s.DetectionTime == 2*before.DetectionTime
	})
	now = time.Now()
	stop(before.DetectionTime + 20*ms)
	time.Sleep(time.Second)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.list {
		if c.To == bfd.Down && c.At.After(now) {
			t.Errorf("down again: %+v", c.Event)
		}
	}
}

// TestADeadPeer: every way to die has its cause.
func TestADeadPeer(t *testing.T) {
	for _, c := range []struct {
		name string
		kill func(h *host, p *process)
		want bfd.Cause
	}{
		{"process killed", func(_ *host, p *process) { p.signal(syscall.SIGKILL) }, bfd.CauseRefused},
		{"process ended", func(_ *host, p *process) { p.signal(syscall.SIGTERM) }, bfd.CausePeerAdminDown},
		{"link cut", func(h *host, _ *process) { cut(h.t, h, true) }, bfd.CauseDetectionExpired},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, other, g, p := pair(t)
			now := time.Now()
			c.kill(h, other)
			report(t, c.name, g.next(p, bfd.Down, now), now, c.want)
			if c.want != bfd.CauseRefused {
				return
			}
			now = time.Now()
			startPeer(h, peerConfig{Local: near4, Remotes: []netip.Addr{us4}})
			t.Logf("  restarted, up after %s", g.next(p, bfd.Up, now).At.Sub(now).Round(ms))
		})
	}
}

// watched is a process with a heartbeat to n addresses of this one, all up.
func watched(t *testing.T, n int) (*process, *group, map[udp.Peer]udp.Config) {
	t.Helper()
	h := link(t)
	want := map[udp.Peer]udp.Config{}
	var watchers []netip.Addr
	for i := range n {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(101 + i)})
		must(t, "ip", "addr", "add", a.String()+"/24", "dev", "v0")
		watchers = append(watchers, a)
		want[udp.Peer{Local: a, Remote: near4}] = heartbeat()
	}
	g := start(t, udp.Options{Port: port}, want)
	other := startPeer(h, peerConfig{Local: near4, Remotes: watchers, Priority: 10})
	for p := range want {
		g.next(p, bfd.Up, time.Time{})
	}
	return other, g, want
}

// TestLinkLocal: a session between link-local addresses, which also survives that its interface is replaced by a new one.
func TestLinkLocal(t *testing.T) {
	ours, theirs := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2")
	p := udp.Peer{Local: ours, Remote: theirs, Interface: "v0"}
	h := newHost(t)
	cable(t, nil, "v0", h, "eth0", "fe80::1/64", "fe80::2/64")
	g := start(t, udp.Options{Port: port}, map[udp.Peer]udp.Config{p: heartbeat()})
	startPeer(h, peerConfig{Local: theirs, Remotes: []netip.Addr{ours}, Iface: "eth0"})
	g.next(p, bfd.Up, time.Time{})
	now := time.Now()
	must(t, "ip", "link", "del", "v0")
	report(t, "interface removed", g.next(p, bfd.Down, now), now, bfd.CauseDetectionExpired)
	cable(t, nil, "v0", h, "eth0", "fe80::1/64", "fe80::2/64")
	g.next(p, bfd.Up, now)
}

// TestAllWatchersNoticeTogether: of a node with 5 watchers, the last one notices soon after the first.
func TestAllWatchersNoticeTogether(t *testing.T) {
	other, g, want := watched(t, 5)
	for range 5 {
		time.Sleep(time.Second)
		now := time.Now()
		other.signal(syscall.SIGSTOP)
		var took []time.Duration
		for p := range want {
			took = append(took, g.next(p, bfd.Down, now).At.Sub(now))
		}
		slices.Sort(took)
		t.Logf("the first of 5 watchers noticed after %s, the last %s later", took[0].Round(ms/10), (took[4] - took[0]).Round(ms/10))
		if took[4] > 5*time.Second {
			t.Errorf("the last watcher needed %s", took[4])
		}
		other.signal(syscall.SIGCONT)
		for p := range want {
			g.next(p, bfd.Up, now)
		}
	}
}

// TestCost prints what a heartbeat with 10 peers at 50 ms costs.
func TestCost(t *testing.T) {
	other, _, _ := watched(t, 10)
	time.Sleep(time.Second)
	const d = 5 * time.Second
	before := other.cpu()
	time.Sleep(d)
	share := 100 * float64(other.cpu()-before) / float64(d)
	t.Logf("10 peers at 50 ms cost %.2f %% of a core", share)
	if share > 10 {
		t.Errorf("%.2f %% of a core for 10 peers", share)
	}
}
