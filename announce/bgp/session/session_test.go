package session

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/bgptest"
	"github.com/fairlead-lb/fairlead/announce/bgp/wire"
	"github.com/fairlead-lb/fairlead/lb"
)

// peerOf is the router as a neighbour, changed as the test wants it.
func peerOf(r *bgptest.Router, change func(*bgp.Peer)) bgp.Peer {
	p := r.Peer()
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
	r := bgptest.Listen(t)
	p := peerOf(r, func(p *bgp.Peer) { p.GracefulRestart = true })
	s := start(t, p)
	l := r.Accept()
	ours := l.Shake()
	if ours.ASN != 64512 || ours.HoldTime != 90 || ours.Graceful == nil || !ours.Graceful.Restarting || ours.Graceful.Time != 120 {
		t.Errorf("we say %+v %+v", ours, ours.Graceful)
	}
	u, err := wire.ParseUpdate(l.Expect(wire.TypeUpdate))
	if err != nil || !slices.Equal(u.Announced, []netip.Prefix{p.Paths[0].Prefix}) {
		t.Errorf("%+v, %v", u, err)
	}
	for _, f := range p.Families {
		if got := l.Expect(wire.TypeUpdate); !bytes.Equal(got, wire.EndOfRIB(f)[19:]) {
			t.Errorf("%x is not the End-of-RIB of %s", got, f)
		}
	}
	up := s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established && x.Pending == 0 })
	if up.Sent != 1 || up.PeerASN != 64513 || up.PeerID != "192.0.2.2" || up.UpdatesOut != 1 {
		t.Errorf("%+v", up)
	}
	p.Paths = nil
	s.Set(state(p))
	if u, err := wire.ParseUpdate(l.Expect(wire.TypeUpdate)); err != nil || len(u.Withdrawn) != 1 {
		t.Errorf("%+v, %v", u, err)
	}
}

// TestEndOfRIBWaits: an incomplete state does not end the peer's patience.
func TestEndOfRIBWaits(t *testing.T) {
	r := bgptest.Listen(t)
	p := peerOf(r, func(p *bgp.Peer) { p.Paths = nil; p.Families = []lb.Family{lb.IPv4} })
	s := start(t)
	s.Set(bgp.State{Peers: []bgp.Peer{p}})
	l := r.Accept()
	l.Shake()
	p.Paths = []bgp.Path{{Prefix: netip.MustParsePrefix("198.51.100.1/32")}}
	s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established })
	s.Set(bgp.State{Peers: []bgp.Peer{p}})
	if u, err := wire.ParseUpdate(l.Expect(wire.TypeUpdate)); err != nil || len(u.Announced) != 1 {
		t.Errorf("the first update is %+v, %v", u, err)
	}
	s.Set(state(p))
	if got := l.Expect(wire.TypeUpdate); !bytes.Equal(got, wire.EndOfRIB(lb.IPv4)[19:]) {
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
			r := bgptest.Listen(t)
			p := peerOf(r, func(p *bgp.Peer) { p.GracefulRestart = c.graceful })
			s := start(t, p)
			l := r.Accept()
			l.Shake()
			s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established && x.Pending == 0 })
			c.end(s, p)
			if c.code == 0 {
				l.Closed()
			} else {
				l.Notified(wire.Code(c.code), c.subcode)
			}
		})
	}
}

// TestHeldSessionStays: what can no longer be read does not end a session that is up.
func TestHeldSessionStays(t *testing.T) {
	r := bgptest.Listen(t)
	p := peerOf(r, nil)
	s := start(t, p)
	l := r.Accept()
	l.Shake()
	s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established && x.Sent == 1 })
	p.Held, p.Password, p.Paths = lb.Refusal{Reason: lb.InvalidSpec, Message: "no Secret"}, "", nil
	s.Set(state(p))
	s.until("withdrawn", func(x bgp.Session) bool { return x.State == bgp.Established && x.Sent == 0 })
	l.Close()
	s.until("held", func(x bgp.Session) bool { return x.State == bgp.Idle && x.Reason == lb.InvalidSpec })
}

// TestReasons: what the router does decides what is reported.
func TestReasons(t *testing.T) {
	notify := func(code wire.Code, sub uint8) func(*bgptest.Line) {
		return func(l *bgptest.Line) { l.Shake(); l.Send(wire.Notification{Code: code, Subcode: sub}.Bytes()) }
	}
	say := func(change func(*wire.Open)) func(*bgptest.Line) {
		return func(l *bgptest.Line) { o := bgptest.Open(); change(&o); l.Expect(wire.TypeOpen); l.Send(o.Bytes()) }
	}
	update := func(body ...byte) []byte {
		m := wire.EndOfRIB(lb.IPv4)[:19]
		m[17] = byte(19 + len(body))
		return append(m, body...)
	}
	for _, c := range []struct {
		name   string
		router func(*bgptest.Line)
		want   lb.Reason
		said   string
	}{
		{"closes at once", func(l *bgptest.Line) { l.Expect(wire.TypeOpen) }, lb.BGPNotConfigured, "without an OPEN"},
		{"other AS", say(func(o *wire.Open) { o.ASN = 1 }), lb.BGPWrongASN, "Bad Peer AS (2/2)"},
		{"hold time of 2 s", say(func(o *wire.Open) { o.HoldTime = 2 }), lb.BGPRejected, "Unacceptable Hold Time (2/6)"},
		{"expects another AS", func(l *bgptest.Line) {
			l.Expect(wire.TypeOpen)
			l.Send(wire.Notification{Code: wire.OpenError, Subcode: 2}.Bytes())
		}, lb.BGPWrongASN, "the peer closed: OPEN Message Error / Bad Peer AS (2/2)"},
		{"hold timer of theirs", notify(wire.HoldExpired, 0), lb.BGPHoldExpired, "the peer closed: Hold Timer Expired (4/0)"},
		{"shutdown", notify(wire.Cease, wire.Shutdown), lb.BGPPeerClosed, "Cease / Administrative Shutdown (6/2)"},
		{"too many of ours", notify(wire.Cease, wire.MaxPrefixes), lb.BGPPeerClosed, "Maximum Number of Prefixes Reached (6/1)"},
		{"removed", notify(wire.Cease, wire.Deconfigured), lb.BGPPeerClosed, "Peer De-configured (6/3)"},
		{"breaks", func(l *bgptest.Line) { l.Shake() }, lb.BGPLost, ""},
		{"garbage instead of an OPEN", func(l *bgptest.Line) { l.Expect(wire.TypeOpen); l.Send(bytes.Repeat([]byte{7}, 50)) }, lb.BGPProtocolError, "Connection Not Synchronized (1/1)"},
		{"OPEN twice", func(l *bgptest.Line) { l.Shake(); l.Send(bgptest.Open().Bytes()) }, lb.BGPProtocolError, "Finite State Machine Error / Unexpected Message in Established State (5/3)"},
		{"a prefix of 33 bits", func(l *bgptest.Line) { l.Shake(); l.Send(update(0, 0, 0, 0, 33, 1, 2, 3, 4, 5)) }, lb.BGPProtocolError, "UPDATE Message Error / Invalid Network Field (3/10)"},
		{"three prefixes", func(l *bgptest.Line) { l.Shake(); l.Send(update(0, 0, 0, 0, 8, 1, 8, 2, 8, 3)) }, lb.BGPMaxPrefixes, "Maximum Number of Prefixes Reached (6/1)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bgptest.Listen(t)
			s := start(t, peerOf(r, func(p *bgp.Peer) { p.MaxPrefixes = 2 }))
			l := r.Accept()
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
	r := bgptest.Listen(t)
	s := start(t, peerOf(r, nil))
	l := r.Accept()
	l.Shake()
	e := wire.Encoder{MyASN: 64513, FourOctet: true, NextHop: map[lb.Family]netip.Addr{lb.IPv4: netip.MustParseAddr("192.0.2.2"), lb.IPv6: netip.MustParseAddr("2001:db8::2")}}
	list := []bgp.Path{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}, {Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
	l.Send(e.Announce(list))
	l.Send(e.Announce(list))
	s.until("3 prefixes", func(x bgp.Session) bool { return x.PrefixesIn == 3 && x.UpdatesIn >= 4 })
	l.Send(e.Withdraw([]netip.Prefix{list[0].Prefix, list[1].Prefix, netip.MustParsePrefix("172.16.0.0/12")}))
	s.until("1 prefix", func(x bgp.Session) bool { return x.PrefixesIn == 1 && x.State == bgp.Established })
}

// TestRouteRefresh: a peer that asks hears everything again.
func TestRouteRefresh(t *testing.T) {
	r := bgptest.Listen(t)
	start(t, peerOf(r, func(p *bgp.Peer) { p.Families = []lb.Family{lb.IPv4} }))
	l := r.Accept()
	l.Shake()
	first := l.Expect(wire.TypeUpdate)
	l.Expect(wire.TypeUpdate) // End-of-RIB
	refresh := append(wire.EndOfRIB(lb.IPv4)[:19], 0, 1, 0, 1)
	refresh[18] = byte(wire.TypeRouteRefresh)
	l.Send(refresh)
	if again := l.Expect(wire.TypeUpdate); !bytes.Equal(first, again) {
		t.Errorf("%x, want %x", again, first)
	}
}

// TestHoldTimer: a silent peer is given up, and is told.
func TestHoldTimer(t *testing.T) {
	r := bgptest.Listen(t)
	s := start(t, peerOf(r, func(p *bgp.Peer) { p.HoldTime = 3 * time.Second }))
	l := r.Accept()
	l.Shake()
	l.Notified(wire.HoldExpired, 0)
	s.until("hold timer", func(x bgp.Session) bool { return x.Reason == lb.BGPHoldExpired && x.Flaps == 1 })
}

// TestPanicEndsOneSession: an error of ours that one peer provokes is no other peer's business, nor the process's.
func TestPanicEndsOneSession(t *testing.T) {
	r := bgptest.Listen(t)
	p := newPeer(Options{Log: slog.New(slog.DiscardHandler), Changed: func() {}}, want{Peer: peerOf(r, nil)})
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
	r := bgptest.Listen(t)
	s := start(t, peerOf(r, func(p *bgp.Peer) { p.GracefulRestart = true }))
	l := r.Accept()
	l.Shake()
	s.until("established", func(x bgp.Session) bool { return x.State == bgp.Established })
	begun := time.Now()
	l.Close()
	if ours := r.Accept().Shake(); ours.Graceful.Restarting || !s.Report().Sessions[0].LastErrorAt.After(begun) {
		t.Errorf("%+v", ours.Graceful)
	}
	t.Logf("back after %s", time.Since(begun))
}

// TestSeqFollowsTheWithdrawals: a State counts as reached when what it withdraws has been written, or the session has ended.
func TestSeqFollowsTheWithdrawals(t *testing.T) {
	r := bgptest.Listen(t)
	p := peerOf(r, nil)
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
	l := r.Accept()
	l.Shake()
	s.until("told", func(x bgp.Session) bool { return x.Sent == 1 })
	p.Paths = nil
	set(2, p)
	reached(2)
	set(3)
	l.Notified(wire.Cease, wire.Deconfigured)
	if got := s.Report().Seq; got != 2 {
		t.Errorf("at %d while the session of a removed peer is open, want 2", got)
	}
	l.Close()
	reached(3)
}

// TestNoGoroutineStays: everything ends with Run.
func TestNoGoroutineStays(t *testing.T) {
	before := runtime.NumGoroutine()
	r := bgptest.Listen(t)
	s := start(t, peerOf(r, nil))
	l := r.Accept()
	l.Shake()
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

// TestUnnumbered: a peer without an address is refused with a way out, not tried.
func TestUnnumbered(t *testing.T) {
	s := start(t, bgp.Peer{Name: "p", Interface: "eth1"})
	got := s.until("refused", func(x bgp.Session) bool { return x.Reason == lb.BGPUnnumbered })
	if got.State != bgp.Idle || !strings.Contains(got.Message, "eth1") {
		t.Errorf("%+v", got)
	}
}
