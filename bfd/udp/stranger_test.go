package udp

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/bfd"
)

// stranger is a UDP socket of a test: a peer that says what it is told to.
type stranger struct {
	t    *testing.T
	conn *net.UDPConn
	to   netip.AddrPort
}

func newStranger(t *testing.T, from, to netip.Addr, port uint16, ttl int) *stranger {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl) }); err != nil {
		t.Fatal(err)
	}
	return &stranger{t, c, netip.AddrPortFrom(to, port)}
}

func (s *stranger) send(b []byte) {
	s.t.Helper()
	if _, err := s.conn.WriteToUDPAddrPort(b, s.to); err != nil {
		s.t.Fatal(err)
	}
}

// follow makes the stranger a real peer until its socket is closed.
func (s *stranger) follow(c bfd.Config, discriminator uint32) {
	session, err := bfd.New(c, discriminator, func() float64 { return 0.5 }, time.Now())
	if err != nil {
		s.t.Error(err)
		return
	}
	buf := make([]byte, 128)
	for {
		for _, p := range session.Tick(time.Now(), nil) {
			if _, err := s.conn.WriteToUDPAddrPort(p.Append(nil), s.to); err != nil {
				return
			}
		}
		if err := s.conn.SetReadDeadline(session.Next()); err != nil {
			return
		}
		if n, err := s.conn.Read(buf); err == nil {
			if p, drop := bfd.Parse(buf[:n]); drop == "" {
				session.Receive(p, time.Now())
			}
		}
	}
}

func open() Config {
	c := fast()
	c.Auth = bfd.Keyring{}
	return c
}

func TestADeadProcessIsNoticedAtOnce(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Refused: true}, {Refused: true, Batched: true}, {}, {Batched: true}} {
		port, p := freePort(t), peerOf(1, 2)
		slow := open()
		slow.Multiplier = 40 // 0.8 s
		o.Port = port
		r := run(t, o, map[Peer]Config{p: slow})
		s := newStranger(t, p.Remote, p.Local, port, 255)
		go s.follow(slow.Config, 7)
		r.state(p, bfd.Up)
		start := time.Now()
		s.conn.Close()
		r.state(p, bfd.Down)
		want := bfd.CauseDetectionExpired
		if o.Refused {
			want = bfd.CauseRefused
		}
		if e := r.last(p); e.Cause != want {
			t.Errorf("with Refused %t, Batched %t: %q, want %q", o.Refused, o.Batched, e.Cause, want)
		}
		t.Logf("with Refused %t, Batched %t noticed after %s", o.Refused, o.Batched, r.last(p).At.Sub(start))
		r.stop()
	}
}

// TestStrangersChangeNothing has a row for every Drop that package bfd does not test.
func TestStrangersChangeNothing(t *testing.T) {
	t.Parallel()
	down := bfd.Packet{State: bfd.Down, Multiplier: 3, MyDiscriminator: 9, DesiredMinTx: time.Second, RequiredMinRx: time.Second}
	known := func(d uint32) bfd.Packet { p := down; p.YourDiscriminator = d; return p }
	for _, c := range []struct {
		name     string
		from     byte
		ttl      int
		multihop bool
		packet   func(discriminator uint32) bfd.Packet
		want     bfd.Drop
	}{
		{"the peer itself", 2, 255, false, func(uint32) bfd.Packet { return down }, ""},
		{"one router away", 2, 254, false, func(uint32) bfd.Packet { return down }, DropTTL},
		{"multihop, one router away", 2, 254, true, func(uint32) bfd.Packet { return down }, ""},
		{"multihop, two routers away", 2, 253, true, func(uint32) bfd.Packet { return down }, DropTTL},
		{"another host", 3, 255, false, func(uint32) bfd.Packet { return down }, DropSource},
		{"another host that knows the discriminator", 3, 255, false, known, DropSource},
		{"a wrong discriminator", 2, 255, false, func(d uint32) bfd.Packet { return known(d ^ 1) }, bfd.DropNoSession},
	} {
		port, p := freePort(t), peerOf(1, 2)
		p.Multihop = c.multihop
		r := run(t, Options{Port: port}, map[Peer]Config{p: open()})
		r.until("open", func() bool { return r.Sessions()[p].Discriminator != 0 })
		s := newStranger(t, loopback(c.from), p.Local, port, c.ttl)
		s.send(c.packet(r.Sessions()[p].Discriminator).Append(nil))
		if c.want == "" {
			r.state(p, bfd.Init)
		} else {
			r.until("counting the drop "+string(c.want), func() bool { return r.metric("packets_dropped_total", string(c.want)) == 1 })
			if got := r.Sessions()[p]; got.State != bfd.Down || got.RemoteDiscriminator != 0 {
				t.Errorf("%s: %+v", c.name, got)
			}
		}
		r.stop()
	}
}

// TestFresh: a group that was asleep longer than its peers wait is not fresh until one of them has answered.
func TestFresh(t *testing.T) {
	t.Parallel()
	port, ab, ba, other := freePort(t), peerOf(1, 2), peerOf(2, 1), peerOf(1, 3)
	a := run(t, Options{Port: port, GapLimit: 200 * ms}, map[Peer]Config{ab: fast(), other: fast()})
	b := run(t, Options{Port: port}, map[Peer]Config{ba: fast()})
	a.state(ab, bfd.Up)
	b.state(ba, bfd.Up)
	a.until("fresh", a.Fresh)
	a.nap.Store(int64(600 * ms))
	admin := fast()
	admin.AdminDown = true // makes an event, in whose callback the loop falls asleep
	if err := a.Set(map[Peer]Config{ab: fast(), other: admin}); err != nil {
		t.Fatal(err)
	}
	a.until("stale while it sleeps", func() bool { return !a.Fresh() })
	if a.count().slept != 0 {
		t.Error("the sleep was seen before the loop woke")
	}
	a.until("fresh again", a.Fresh)
	if got := a.count(); got.slept == 0 || got.confirmed == 0 {
		t.Errorf("after a sleep: %+v, want both callbacks", got)
	}
	if a.Sleeps() == 0 {
		t.Error("the sleep was not counted")
	}
	if n := a.metric("gaps_total"); n == 0 {
		t.Error("the gap was not counted")
	}
	a.stop()
	if !a.Fresh() {
		t.Error("a group that has ended is not fresh")
	}
}

// TestFreshNeedsAPeer: with nobody there to answer, a group stays stale.
func TestFreshNeedsAPeer(t *testing.T) {
	t.Parallel()
	port, ab, other := freePort(t), peerOf(1, 2), peerOf(1, 3)
	a := run(t, Options{Port: port, GapLimit: 100 * ms}, map[Peer]Config{ab: open(), other: open()})
	s := newStranger(t, ab.Remote, ab.Local, port, 255)
	go s.follow(open().Config, 7)
	a.state(ab, bfd.Up)
	a.nap.Store(int64(300 * ms))
	admin := open()
	admin.AdminDown = true
	if err := a.Set(map[Peer]Config{ab: open(), other: admin}); err != nil {
		t.Fatal(err)
	}
	a.until("asleep", func() bool { return a.nap.Load() == 0 })
	s.conn.Close()
	a.state(ab, bfd.Down)
	if a.Fresh() || a.count().confirmed != 0 {
		t.Errorf("fresh %t, %+v: nobody has answered", a.Fresh(), a.count())
	}
	a.GoOn()
	if !a.Fresh() {
		t.Error("not fresh although its caller has given up waiting")
	}
}
