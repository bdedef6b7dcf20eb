package arp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/lb"
)

// segment is a fake Ethernet: it keeps what was sent on each link and delivers what the test puts there.
type segment struct {
	mu    sync.Mutex
	start time.Time
	sent  []sent
	wires map[string]*fakeWire
	deny  map[string]bool // links whose socket cannot be opened
}

type sent struct {
	At    time.Duration
	Iface string
	Packet
}

func newSegment() *segment {
	return &segment{start: time.Now(), wires: map[string]*fakeWire{}, deny: map[string]bool{}}
}

func (s *segment) listen(l lb.Link) (wire, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deny[l.Name] {
		return nil, errors.New("operation not permitted")
	}
	w := &fakeWire{segment: s, name: l.Name, in: make(chan []byte, 16), closed: make(chan struct{})}
	s.wires[l.Name] = w
	return w, nil
}

// deliver hands p to the responder's socket on iface and waits until it was handled.
func (s *segment) deliver(iface string, p Packet) {
	s.mu.Lock()
	w := s.wires[iface]
	s.mu.Unlock()
	w.in <- p.Append(nil)
	synctest.Wait()
}

// taken returns what was sent since the last call.
func (s *segment) taken() []sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.sent
	s.sent = nil
	return out
}

type fakeWire struct {
	segment *segment
	name    string
	in      chan []byte
	closed  chan struct{}
	once    sync.Once
}

func (w *fakeWire) Read(b []byte) (int, error) {
	select {
	case f := <-w.in:
		return copy(b, f), nil
	case <-w.closed:
		return 0, io.EOF
	}
}

func (w *fakeWire) Write(b []byte) (int, error) {
	p, err := Parse(b)
	if err != nil {
		return 0, err
	}
	w.segment.mu.Lock()
	defer w.segment.mu.Unlock()
	w.segment.sent = append(w.segment.sent, sent{time.Since(w.segment.start), w.name, p})
	return len(b), nil
}

func (w *fakeWire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

func up(name string, index int, mac lb.MAC) lb.Link {
	return lb.Link{Name: name, Index: index, MAC: mac, Up: true}
}

func on(epoch uint64, ifaces ...string) announce.Target {
	return announce.Target{Interfaces: ifaces, Epoch: epoch}
}

type targets = map[netip.Addr]announce.Target

// withResponder runs script beside a running responder whose links eth0 and eth1 are up.
func withResponder(t *testing.T, script func(r *Responder, s *segment, conflicts func() []Conflict)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSegment()
		var mu sync.Mutex
		var seen []Conflict
		r, err := New(Options{Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Changed: func() {}, listen: s.listen,
			Conflict: func(c Conflict) { mu.Lock(); defer mu.Unlock(); seen = append(seen, c) }})
		if err != nil {
			t.Fatal(err)
		}
		r.SetLinks([]lb.Link{up("eth0", 2, ours), up("eth1", 3, lb.MAC{2, 0, 0, 0, 1, 1})})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		script(r, s, func() []Conflict { mu.Lock(); defer mu.Unlock(); return slices.Clone(seen) })
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if len(r.Working()) != 0 {
			t.Error("sockets are open after Run")
		}
	})
}

func TestAnswersOnlyForOwnedAddressesOnAllowedLinks(t *testing.T) {
	withResponder(t, func(r *Responder, s *segment, _ func() []Conflict) {
		reached := r.Set(targets{vip: on(1, "eth0"), netip.MustParseAddr("2001:db8::1"): on(1, "eth0"), other: on(1, "eth9")})
		if d := cmp.Diff(targets{vip: on(1, "eth0")}, reached, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("reached (-want +got):\n%s", d)
		}
		time.Sleep(10 * time.Second)
		s.taken()
		s.deliver("eth0", request())
		s.deliver("eth1", request())
		s.deliver("eth0", request(func(p *Packet) { p.TargetIP = other }))
		got := s.taken()
		if len(got) != 1 || got[0].Iface != "eth0" || got[0].Op != Reply || got[0].SenderMAC != ours {
			t.Errorf("sent %v, want one reply on eth0", got)
		}
		r.Set(nil)
		s.deliver("eth0", request())
		if got := s.taken(); len(got) != 0 {
			t.Errorf("answered after the address was withdrawn: %v", got)
		}
	})
}

func TestTellsTheNeighboursOnGain(t *testing.T) {
	const ms = time.Millisecond
	withResponder(t, func(r *Responder, s *segment, _ func() []Conflict) {
		r.Set(targets{vip: on(1, "eth0")})
		time.Sleep(30 * time.Second)
		r.Set(targets{vip: on(1, "eth0")}) // nothing new
		synctest.Wait()
		var at []time.Duration
		for i, p := range s.taken() {
			if want := Gratuitous(vip, ours)[i%2]; p.Packet != want || p.Iface != "eth0" {
				t.Errorf("sent %s on %s, want %s", p.Packet, p.Iface, want)
			}
			if i%2 == 0 {
				at = append(at, p.At)
			}
		}
		if d := cmp.Diff([]time.Duration{0, 50 * ms, 150 * ms, 400 * ms, 1100 * ms, 2200 * ms}, at); d != "" {
			t.Errorf("announced at (-want +got):\n%s", d)
		}
		r.Set(targets{vip: on(2, "eth0")}) // a new epoch: the neighbours may believe another
		synctest.Wait()
		if got := s.taken(); len(got) != 2 {
			t.Errorf("after a new epoch %d packets, want 2", len(got))
		}
		r.Set(nil)
		time.Sleep(5 * time.Minute)
		if got := s.taken(); len(got) != 0 {
			t.Errorf("announced after the withdrawal: %v", got)
		}
	})
}

func TestRefreshes(t *testing.T) {
	withResponder(t, func(r *Responder, s *segment, _ func() []Conflict) {
		r.Set(targets{vip: on(1, "eth0")})
		time.Sleep(3 * time.Second)
		s.taken()
		time.Sleep(10 * time.Minute)
		if n := len(s.taken()) / 2; n < 5 || n > 10 {
			t.Errorf("%d refreshes in 10 minutes, want one in 60 to 100 s", n)
		}
	})
}

func TestPacesManyAddresses(t *testing.T) {
	withResponder(t, func(r *Responder, s *segment, _ func() []Conflict) {
		want := targets{}
		for i := range 2500 {
			want[netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})] = on(1, "eth0")
		}
		r.Set(want)
		time.Sleep(time.Second)
		first, perTick := map[netip.Addr]bool{}, map[time.Duration]int{}
		for _, p := range s.taken() {
			first[p.SenderIP] = true
			perTick[p.At.Truncate(pace)]++
		}
		if len(first) != len(want) {
			t.Errorf("%d of %d addresses announced within a second", len(first), len(want))
		}
		for at, n := range perTick {
			if n > 2*5000/100 {
				t.Errorf("%d packets in the 10 ms from %s", n, at)
			}
		}
	})
}

func TestLinksComeAndGo(t *testing.T) {
	withResponder(t, func(r *Responder, s *segment, _ func() []Conflict) {
		want := targets{vip: on(1, "eth0")}
		r.Set(want)
		time.Sleep(10 * time.Second)
		s.taken()

		r.SetLinks(nil)
		synctest.Wait()
		if len(r.Working()) != 0 || len(r.Set(want)) != 0 {
			t.Error("a link that is gone still works")
		}
		s.deny["eth0"] = true
		r.SetLinks([]lb.Link{up("eth0", 9, theirs)}) // back, as another device
		time.Sleep(5 * time.Second)
		s.deny["eth0"] = false
		time.Sleep(2 * time.Second)
		if !r.Working()["eth0"] || len(r.Set(want)) != 1 {
			t.Fatal("the socket was not opened in the end")
		}
		got := s.taken()
		if len(got) == 0 || got[0].SenderMAC != theirs {
			t.Errorf("sent %v, want announcements with the new hardware address", got)
		}

		s.wires["eth0"].Close() // the kernel ends the socket, the link stays
		time.Sleep(time.Second)
		s.deliver("eth0", request())
		if !slices.ContainsFunc(s.taken(), func(p sent) bool { return p.Op == Reply && p.TargetMAC == station }) {
			t.Error("no answer after the socket was opened again")
		}
	})
}

func TestReportsStrangersNowAndThen(t *testing.T) {
	withResponder(t, func(r *Responder, s *segment, conflicts func() []Conflict) {
		r.Set(targets{vip: on(1, "eth0", "eth1")})
		time.Sleep(5 * time.Second)
		s.deliver("eth0", Gratuitous(vip, lb.MAC{2, 0, 0, 0, 1, 1})[0]) // eth1's, on the same segment
		s.deliver("eth0", Gratuitous(other, theirs)[0])
		if got := conflicts(); len(got) != 0 {
			t.Errorf("reported %v", got)
		}
		for range 5 {
			s.deliver("eth0", Gratuitous(vip, theirs)[0])
		}
		time.Sleep(conflictEvery)
		s.deliver("eth0", Gratuitous(vip, theirs)[1])
		c := Conflict{Addr: vip, Interface: "eth0", MAC: theirs}
		if got := conflicts(); !slices.Equal(got, []Conflict{c, c}) {
			t.Errorf("reported %v, want twice %v", got, c)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("empty options are accepted")
	}
}
