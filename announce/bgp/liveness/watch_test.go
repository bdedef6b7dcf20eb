package liveness

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/bfd"
	"github.com/fairlead-lb/fairlead/lb"
)

// fake is Sessions that keep what was wanted last.
type fake struct {
	mu   sync.Mutex
	want bgp.State
}

func (f *fake) Set(s bgp.State) { f.mu.Lock(); defer f.mu.Unlock(); f.want = s }
func (f *fake) Report() bgp.Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out bgp.Report
	for _, p := range f.want.Peers {
		out.Sessions = append(out.Sessions, bgp.Session{Peer: p.Name})
	}
	return out
}
func (f *fake) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (f *fake) down() (out []bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.want.Peers {
		out = append(out, p.BFDDown)
	}
	return out
}

func newWatch(t *testing.T) (*Watch, *fake) {
	t.Helper()
	f := &fake{}
	w, err := New(Options{Sessions: f, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Changed: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	return w, f
}

func peer() bgp.Peer {
	return bgp.Peer{Name: "p", Addr: netip.MustParseAddr("192.0.2.2"), BFD: &bgp.BFD{Receive: 300 * time.Millisecond, Transmit: 50 * time.Millisecond, Multiplier: 3}}
}

// TestIntervalsOnTheWire: milliseconds of a BFDProfile are thousands of microseconds in the packet (RFC 5880 section 4.1), at the
// offsets where every other implementation reads them; and the C bit is set.
func TestIntervalsOnTheWire(t *testing.T) {
	_, c, ok := sessionOf(peer())
	if !ok {
		t.Fatal("no session")
	}
	now := time.Unix(1, 0)
	s, err := bfd.New(c.Config, 7, func() float64 { return 0 }, now)
	if err != nil {
		t.Fatal(err)
	}
	s.Receive(bfd.Packet{State: bfd.Init, Multiplier: 3, MyDiscriminator: 9, YourDiscriminator: 7, DesiredMinTx: time.Millisecond, RequiredMinRx: time.Millisecond}, now)
	out := s.Tick(now.Add(time.Millisecond), nil)
	if len(out) == 0 {
		t.Fatal("nothing is sent")
	}
	b := out[0].Append(nil)
	if tx, rx := binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:]); tx != 50_000 || rx != 300_000 {
		t.Errorf("Desired Min TX is %d and Required Min RX %d microseconds, want 50000 and 300000", tx, rx)
	}
	if echo := binary.BigEndian.Uint32(b[20:]); echo != 0 {
		t.Errorf("Required Min Echo RX is %d: there is no echo", echo)
	}
	if b[1]&0x08 == 0 || b[2] != 3 {
		t.Errorf("flags %#x and multiplier %d, want the C bit and 3", b[1], b[2])
	}
}

func TestWhichSession(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*bgp.Peer)
		want   string // "" = none
	}{
		{"usual", func(*bgp.Peer) {}, "0.0.0.0->192.0.2.2"},
		{"source", func(p *bgp.Peer) { p.Source = netip.MustParseAddr("192.0.2.1") }, "192.0.2.1->192.0.2.2"},
		{"IPv6", func(p *bgp.Peer) { p.Addr = netip.MustParseAddr("2001:db8::2") }, "::->2001:db8::2"},
		{"link-local", func(p *bgp.Peer) { p.Addr = netip.MustParseAddr("fe80::2%eth0") }, "::->fe80::2%eth0"},
		{"multihop", func(p *bgp.Peer) { p.BFD.MultiHop = true }, "0.0.0.0->192.0.2.2 multihop"},
		{"no profile", func(p *bgp.Peer) { p.BFD = nil }, ""},
		{"held", func(p *bgp.Peer) { p.Held.Reason = lb.InvalidSpec }, ""},
	} {
		p := peer()
		c.change(&p)
		s, config, ok := sessionOf(p)
		if ok != (c.want != "") || ok && s.String() != c.want {
			t.Errorf("%s: %s, %t", c.name, s, ok)
		}
		if ok && config.Validate() != nil {
			t.Errorf("%s: %v", c.name, config.Validate())
		}
	}
}

// TestWhatTakesSessionsDown goes through the ways in which BFD changes.
func TestWhatTakesSessionsDown(t *testing.T) {
	at, _, _ := sessionOf(peer())
	now := time.Now()
	for _, c := range []struct {
		name  string
		event bfd.Event
		want  bool
	}{
		{"has never been up", bfd.Event{From: bfd.Init, To: bfd.Down, Cause: bfd.CauseDetectionExpired}, false},
		{"silent", bfd.Event{From: bfd.Up, To: bfd.Down, Cause: bfd.CauseDetectionExpired}, true},
		{"the peer does not hear us", bfd.Event{From: bfd.Up, To: bfd.Down, Cause: bfd.CausePeerDown}, true},
		{"maintenance of the peer", bfd.Event{From: bfd.Up, To: bfd.Down, Cause: bfd.CausePeerAdminDown}, false},
		{"maintenance of ours", bfd.Event{From: bfd.Up, To: bfd.AdminDown, Cause: bfd.CauseAdminDown}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, f := newWatch(t)
			w.Set(bgp.State{Peers: []bgp.Peer{peer()}})
			w.change(event{at, c.event}, now)
			if got := f.down(); got[0] != c.want {
				t.Fatalf("down is %v, want %t", got, c.want)
			}
			w.tired(now.Add(giveUp - 1))
			if got := f.down(); got[0] != c.want {
				t.Errorf("before giving up: %v", got)
			}
			w.tired(now.Add(giveUp))
			if got := f.down(); got[0] {
				t.Errorf("after giving up it is still down")
			}
			w.change(event{at, c.event}, now)
			w.change(event{at, bfd.Event{From: bfd.Init, To: bfd.Up}}, now)
			if got := f.down(); got[0] {
				t.Errorf("after BFD is up it is still down")
			}
		})
	}
}

// TestOthersAreNotTouched: one peer's BFD is not another's, and a peer that comes back is not down.
func TestOthersAreNotTouched(t *testing.T) {
	w, f := newWatch(t)
	a, b := peer(), peer()
	b.Name, b.Addr = "q", netip.MustParseAddr("192.0.2.3")
	w.Set(bgp.State{Peers: []bgp.Peer{a, b}})
	at, _, _ := sessionOf(a)
	w.change(event{at, bfd.Event{From: bfd.Up, To: bfd.Down, Cause: bfd.CauseDetectionExpired}}, time.Now())
	if got := f.down(); !got[0] || got[1] {
		t.Errorf("%v", got)
	}
	w.Set(bgp.State{Peers: []bgp.Peer{b}})
	w.Set(bgp.State{Peers: []bgp.Peer{a, b}})
	if got := f.down(); got[0] || got[1] {
		t.Errorf("%v", got)
	}
}

// TestTwoWatches: two of them see each other over the loopback interface, report it, and notice when one is gone on purpose.
func TestTwoWatches(t *testing.T) {
	one, two := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	run := func(local, remote netip.Addr) (*Watch, *fake, func()) {
		w, f := newWatch(t)
		p := peer()
		p.Addr, p.Source = remote, local
		w.Set(bgp.State{Peers: []bgp.Peer{p}})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		stop := sync.OnceFunc(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(stop)
		return w, f, stop
	}
	until := func(w *Watch, want string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); w.Report().Sessions[0].BFD != want; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("BFD is %s, want %s", w.Report().Sessions[0].BFD, want)
			}
		}
	}
	a, af, _ := run(one, two)
	b, _, stop := run(two, one)
	until(a, "Up")
	until(b, "Up")
	stop()
	until(a, "Down")
	if af.down()[0] {
		t.Error("a planned end took the session down")
	}
}
