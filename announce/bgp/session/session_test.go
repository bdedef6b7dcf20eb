package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/wire"
	"github.com/fairlead-lb/fairlead/lb"
)

// router is the other end, on the loopback interface: a test says what it does with each connection.
type router struct {
	t *testing.T
	l net.Listener
}

func listen(t *testing.T) *router {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	return &router{t, l}
}

// accept waits for a connection of ours.
func (r *router) accept() *line {
	r.t.Helper()
	conn, err := r.l.Accept()
	check(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	check(r.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return &line{r.t, conn}
}

// line is a connection as the router has it.
type line struct {
	t *testing.T
	net.Conn
}

func (l *line) send(b []byte) {
	l.t.Helper()
	_, err := l.Write(b)
	check(l.t, err)
}

// expect skips keepalives and returns the next message, which must be of a kind.
func (l *line) expect(kind wire.Type) []byte {
	l.t.Helper()
	for {
		got, body, err := wire.Read(l, make([]byte, wire.MaxMessage))
		check(l.t, err)
		if got == kind {
			return body
		}
		if got != wire.TypeKeepalive {
			l.t.Fatalf("got a message of type %d with %x, want type %d", got, body, kind)
		}
	}
}

// notified expects a NOTIFICATION, whatever comes before it.
func (l *line) notified(code wire.Code, subcode uint8) {
	l.t.Helper()
	for {
		kind, body, err := wire.Read(l, make([]byte, wire.MaxMessage))
		check(l.t, err)
		if kind == wire.TypeNotification {
			if n := wire.ParseNotification(body); !n.Has(code, subcode) {
				l.t.Fatalf("got %v, want %d/%d", n, code, subcode)
			}
			return
		}
	}
}

// closed expects the end of the connection without a NOTIFICATION.
func (l *line) closed() {
	l.t.Helper()
	for {
		kind, body, err := wire.Read(l, make([]byte, wire.MaxMessage))
		if err != nil {
			if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				l.t.Fatal(err)
			}
			return
		}
		if kind == wire.TypeNotification {
			l.t.Fatalf("closed with %v", wire.ParseNotification(body))
		}
	}
}

// open is the router's OPEN.
func open() wire.Open {
	return wire.Open{ASN: 64513, ID: netip.MustParseAddr("192.0.2.2"), HoldTime: 90, Families: []lb.Family{lb.IPv4, lb.IPv6}, Graceful: &wire.Graceful{}}
}

// shake brings a session up and returns our OPEN.
func (l *line) shake() wire.Open {
	l.t.Helper()
	ours, err := wire.ParseOpen(l.expect(wire.TypeOpen))
	check(l.t, err)
	l.send(open().Bytes())
	l.expect(wire.TypeKeepalive)
	l.send(wire.Keepalive())
	return ours
}

func (r *router) peer(change func(*bgp.Peer)) bgp.Peer {
	at := netip.MustParseAddrPort(r.l.Addr().String())
	p := bgp.Peer{Name: "p", Addr: at.Addr(), Port: at.Port(), MyASN: 64512, PeerASN: 64513, RouterID: netip.MustParseAddr("192.0.2.1"), HoldTime: 90 * time.Second,
		Keepalive: 30 * time.Second, ConnectRetry: time.Second, Families: []lb.Family{lb.IPv4, lb.IPv6}, RestartTime: 120 * time.Second,
		Paths: []bgp.Path{{Prefix: netip.MustParsePrefix("198.51.100.1/32")}}}
	if change != nil {
		change(&p)
	}
	return p
}

// running is a Speaker in a goroutine.
type running struct {
	*Speaker
	t    *testing.T
	stop func()
}

func start(t *testing.T, peers ...bgp.Peer) *running {
	t.Helper()
	s, err := New(Options{Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	s.Set(state(peers...))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r := &running{s, t, sync.OnceFunc(func() { cancel(); check(t, <-ended) })}
	t.Cleanup(r.stop)
	return r
}

func state(peers ...bgp.Peer) bgp.State {
	return bgp.State{Peers: peers, Complete: true, Preserved: true}
}

// keep sets a state that says Keep.
func (r *running) keep(p bgp.Peer) {
	st := state(p)
	st.Keep = true
	r.Set(st)
}

// until waits for a report of the peer.
func (r *running) until(what string, ok func(bgp.Session) bool) bgp.Session {
	r.t.Helper()
	var last bgp.Session
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, s := range r.Report().Sessions {
			if last = s; ok(s) {
				return s
			}
		}
	}
	r.t.Fatalf("not %s: %+v", what, last)
	return last
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSessionTellsItsPaths(t *testing.T) {
	r := listen(t)
	p := r.peer(func(p *bgp.Peer) { p.GracefulRestart = true })
	s := start(t, p)
	l := r.accept()
	ours := l.shake()
	if ours.ASN != 64512 || ours.HoldTime != 90 || ours.Graceful == nil || !ours.Graceful.Restarting || ours.Graceful.Time != 120 {
		t.Errorf("we say %+v %+v", ours, ours.Graceful)
	}
	u, err := wire.ParseUpdate(l.expect(wire.TypeUpdate))
	if err != nil || !slices.Equal(u.Announced, []netip.Prefix{p.Paths[0].Prefix}) {
		t.Errorf("%+v, %v", u, err)
	}
	for _, f := range p.Families {
		if got := l.expect(wire.TypeUpdate); !bytes.Equal(got, wire.EndOfRIB(f)[19:]) {
			t.Errorf("%x is not the End-of-RIB of %s", got, f)
		}
	}
	up := s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established && x.Pending == 0 })
	if up.Sent != 1 || up.PeerASN != 64513 || up.PeerID != "192.0.2.2" || up.UpdatesOut != 1 {
		t.Errorf("%+v", up)
	}
	p.Paths = nil
	s.Set(state(p))
	if u, err := wire.ParseUpdate(l.expect(wire.TypeUpdate)); err != nil || len(u.Withdrawn) != 1 {
		t.Errorf("%+v, %v", u, err)
	}
}

// TestEndOfRIBWaits: an incomplete state does not end the peer's patience.
func TestEndOfRIBWaits(t *testing.T) {
	r := listen(t)
	p := r.peer(func(p *bgp.Peer) { p.Paths = nil; p.Families = []lb.Family{lb.IPv4} })
	s := start(t)
	s.Set(bgp.State{Peers: []bgp.Peer{p}})
	l := r.accept()
	l.shake()
	p.Paths = []bgp.Path{{Prefix: netip.MustParsePrefix("198.51.100.1/32")}}
	s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established })
	s.Set(bgp.State{Peers: []bgp.Peer{p}})
	if u, err := wire.ParseUpdate(l.expect(wire.TypeUpdate)); err != nil || len(u.Announced) != 1 {
		t.Errorf("the first update is %+v, %v", u, err)
	}
	s.Set(state(p))
	if got := l.expect(wire.TypeUpdate); !bytes.Equal(got, wire.EndOfRIB(lb.IPv4)[19:]) {
		t.Errorf("%x", got)
	}
}

// TestHowSessionsEnd: what we do decides whether the peer hears a NOTIFICATION, and which.
func TestHowSessionsEnd(t *testing.T) {
	for _, c := range []struct {
		name          string
		graceful      bool
		end           func(*running, bgp.Peer)
		code, subcode uint8 // 0 = the connection closes in silence
	}{
		{"stop", true, func(s *running, _ bgp.Peer) { go s.stop() }, 6, wire.Shutdown},
		{"stop, keeping", true, func(s *running, p bgp.Peer) { s.keep(p); go s.stop() }, 0, 0},
		{"stop, keeping without graceful restart", false, func(s *running, p bgp.Peer) { s.keep(p); go s.stop() }, 6, wire.Shutdown},
		{"peer removed", true, func(s *running, _ bgp.Peer) { s.Set(state()) }, 6, wire.Deconfigured},
		{"BFD", true, func(s *running, p bgp.Peer) { p.BFDDown = true; s.Set(state(p)) }, 6, wire.BFDDown},
		{"settings changed under graceful restart", true, func(s *running, p bgp.Peer) { p.HoldTime = 30 * time.Second; s.Set(state(p)) }, 0, 0},
		{"settings changed", false, func(s *running, p bgp.Peer) { p.HoldTime = 30 * time.Second; s.Set(state(p)) }, 6, wire.OtherConfig},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := listen(t)
			p := r.peer(func(p *bgp.Peer) { p.GracefulRestart = c.graceful })
			s := start(t, p)
			l := r.accept()
			l.shake()
			s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established && x.Pending == 0 })
			c.end(s, p)
			if c.code == 0 {
				l.closed()
			} else {
				l.notified(wire.Code(c.code), c.subcode)
			}
		})
	}
}

// TestHeldSessionStays: what can no longer be read does not end a session that is up.
func TestHeldSessionStays(t *testing.T) {
	r := listen(t)
	p := r.peer(nil)
	s := start(t, p)
	l := r.accept()
	l.shake()
	s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established && x.Sent == 1 })
	p.Held, p.Password, p.Paths = lb.Refusal{Reason: lb.InvalidSpec, Message: "no Secret"}, "", nil
	s.Set(state(p))
	s.until("withdrawn", func(x bgp.Session) bool { return x.State == bgp.Established && x.Sent == 0 })
	l.Close()
	s.until("held", func(x bgp.Session) bool { return x.State == bgp.Idle && x.Reason == lb.InvalidSpec })
}

// TestReasons: what the router does decides what is reported.
func TestReasons(t *testing.T) {
	notify := func(code wire.Code, sub uint8) func(*line) {
		return func(l *line) { l.shake(); l.send(wire.Notification{Code: code, Subcode: sub}.Bytes()) }
	}
	say := func(change func(*wire.Open)) func(*line) {
		return func(l *line) { o := open(); change(&o); l.expect(wire.TypeOpen); l.send(o.Bytes()) }
	}
	update := func(body ...byte) []byte {
		m := wire.EndOfRIB(lb.IPv4)[:19]
		m[17] = byte(19 + len(body))
		return append(m, body...)
	}
	for _, c := range []struct {
		name   string
		router func(*line)
		want   lb.Reason
		said   string
	}{
		{"closes at once", func(l *line) { l.expect(wire.TypeOpen) }, lb.BGPNotConfigured, "without an OPEN"},
		{"other AS", say(func(o *wire.Open) { o.ASN = 1 }), lb.BGPWrongASN, "Bad Peer AS (2/2)"},
		{"hold time of 2 s", say(func(o *wire.Open) { o.HoldTime = 2 }), lb.BGPRejected, "Unacceptable Hold Time (2/6)"},
		{"expects another AS", func(l *line) {
			l.expect(wire.TypeOpen)
			l.send(wire.Notification{Code: wire.OpenError, Subcode: 2}.Bytes())
		}, lb.BGPWrongASN, "the peer closed: OPEN Message Error / Bad Peer AS (2/2)"},
		{"hold timer of theirs", notify(wire.HoldExpired, 0), lb.BGPHoldExpired, "the peer closed: Hold Timer Expired (4/0)"},
		{"shutdown", notify(wire.Cease, wire.Shutdown), lb.BGPPeerClosed, "Cease / Administrative Shutdown (6/2)"},
		{"too many of ours", notify(wire.Cease, wire.MaxPrefixes), lb.BGPPeerClosed, "Maximum Number of Prefixes Reached (6/1)"},
		{"removed", notify(wire.Cease, wire.Deconfigured), lb.BGPPeerClosed, "Peer De-configured (6/3)"},
		{"breaks", func(l *line) { l.shake() }, lb.BGPLost, ""},
		{"garbage instead of an OPEN", func(l *line) { l.expect(wire.TypeOpen); l.send(bytes.Repeat([]byte{7}, 50)) }, lb.BGPProtocolError, "Connection Not Synchronized (1/1)"},
		{"OPEN twice", func(l *line) { l.shake(); l.send(open().Bytes()) }, lb.BGPProtocolError, "Finite State Machine Error / Unexpected Message in Established State (5/3)"},
		{"a prefix of 33 bits", func(l *line) { l.shake(); l.send(update(0, 0, 0, 0, 33, 1, 2, 3, 4, 5)) }, lb.BGPProtocolError, "UPDATE Message Error / Invalid Network Field (3/10)"},
		{"three prefixes", func(l *line) { l.shake(); l.send(update(0, 0, 0, 0, 8, 1, 8, 2, 8, 3)) }, lb.BGPMaxPrefixes, "Maximum Number of Prefixes Reached (6/1)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := listen(t)
			s := start(t, r.peer(func(p *bgp.Peer) { p.MaxPrefixes = 2 }))
			l := r.accept()
			c.router(l)
			if c.name != "three prefixes" && !strings.Contains(c.said, "we closed") {
				defer l.Close()
			}
			if c.want == lb.BGPNotConfigured || c.want == lb.BGPLost {
				l.Close()
			}
			got := s.until(string(c.want), func(x bgp.Session) bool { return x.Reason == c.want })
			if !strings.Contains(got.LastError, c.said) || got.Message == "" || got.LastErrorAt.IsZero() {
				t.Errorf("%+v\nwant a last error with %q", got, c.said)
			}
		})
	}
}

// TestCountsWhatComes: prefixes are counted once each, and forgotten when they are withdrawn.
func TestCountsWhatComes(t *testing.T) {
	r := listen(t)
	s := start(t, r.peer(nil))
	l := r.accept()
	l.shake()
	e := wire.Encoder{MyASN: 64513, FourOctet: true, NextHop: map[lb.Family]netip.Addr{lb.IPv4: netip.MustParseAddr("192.0.2.2"), lb.IPv6: netip.MustParseAddr("2001:db8::2")}}
	list := []bgp.Path{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}, {Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
	l.send(e.Announce(list))
	l.send(e.Announce(list))
	s.until("3 prefixes", func(x bgp.Session) bool { return x.PrefixesIn == 3 && x.UpdatesIn >= 4 })
	l.send(e.Withdraw([]netip.Prefix{list[0].Prefix, list[1].Prefix, netip.MustParsePrefix("172.16.0.0/12")}))
	s.until("1 prefix", func(x bgp.Session) bool { return x.PrefixesIn == 1 && x.State == bgp.Established })
}

// TestRouteRefresh: a peer that asks hears everything again.
func TestRouteRefresh(t *testing.T) {
	r := listen(t)
	start(t, r.peer(func(p *bgp.Peer) { p.Families = []lb.Family{lb.IPv4} }))
	l := r.accept()
	l.shake()
	first := l.expect(wire.TypeUpdate)
	l.expect(wire.TypeUpdate) // End-of-RIB
	refresh := append(wire.EndOfRIB(lb.IPv4)[:19], 0, 1, 0, 1)
	refresh[18] = byte(wire.TypeRouteRefresh)
	l.send(refresh)
	if again := l.expect(wire.TypeUpdate); !bytes.Equal(first, again) {
		t.Errorf("%x, want %x", again, first)
	}
}

// TestHoldTimer: a silent peer is given up, and is told.
func TestHoldTimer(t *testing.T) {
	r := listen(t)
	s := start(t, r.peer(func(p *bgp.Peer) { p.HoldTime = 3 * time.Second }))
	l := r.accept()
	l.shake()
	l.notified(wire.HoldExpired, 0)
	s.until("hold timer", func(x bgp.Session) bool { return x.Reason == lb.BGPHoldExpired && x.Flaps == 1 })
}

// TestPanicEndsOneSession: an error of ours that one peer provokes is no other peer's business, nor the process's.
func TestPanicEndsOneSession(t *testing.T) {
	r := listen(t)
	p := newPeer(Options{Log: slog.New(slog.DiscardHandler), Changed: func() {}}, want{Peer: r.peer(nil)})
	p.o.Changed = func() {
		if p.session.State == bgp.OpenSent {
			panic("out of range")
		}
	}
	err := p.attempt(t.Context(), p.want)
	if why := explain(p.want.Peer, err); why.Reason != lb.BGPCrashed || !strings.Contains(why.Message, "out of range") {
		t.Errorf("%v", err)
	}
}

// TestReconnectsAtOnce: a session that breaks is back before any timer, and is no restart.
func TestReconnectsAtOnce(t *testing.T) {
	r := listen(t)
	s := start(t, r.peer(func(p *bgp.Peer) { p.GracefulRestart = true }))
	l := r.accept()
	l.shake()
	s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established })
	begun := time.Now()
	l.Close()
	if ours := r.accept().shake(); ours.Graceful.Restarting || !s.Report().Sessions[0].LastErrorAt.After(begun) {
		t.Errorf("%+v", ours.Graceful)
	}
	t.Logf("back after %s", time.Since(begun))
}

// TestSeqFollowsTheWithdrawals: a State counts as reached when what it withdraws has been written, or the session has ended.
func TestSeqFollowsTheWithdrawals(t *testing.T) {
	r := listen(t)
	p := r.peer(nil)
	s := start(t)
	set := func(seq uint64, peers ...bgp.Peer) {
		st := state(peers...)
		st.Seq = seq
		s.Set(st)
	}
	reached := func(seq uint64) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); s.Report().Seq != seq; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("at %d, want %d", s.Report().Seq, seq)
			}
		}
	}
	set(1, p)
	reached(1)
	l := r.accept()
	l.shake()
	s.until("told", func(x bgp.Session) bool { return x.Sent == 1 })
	p.Paths = nil
	set(2, p)
	reached(2)
	set(3)
	l.notified(wire.Cease, wire.Deconfigured)
	if got := s.Report().Seq; got != 2 {
		t.Errorf("at %d while the session of a removed peer is open, want 2", got)
	}
	l.Close()
	reached(3)
}

// TestNoGoroutineStays: everything ends with Run.
func TestNoGoroutineStays(t *testing.T) {
	before := runtime.NumGoroutine()
	r := listen(t)
	s := start(t, r.peer(nil))
	l := r.accept()
	l.shake()
	s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established })
	go func() { _, _ = io.Copy(io.Discard, l) }()
	s.stop()
	l.Close()
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			_, _ = os.Stderr.Write(buf[:runtime.Stack(buf, true)])
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}
