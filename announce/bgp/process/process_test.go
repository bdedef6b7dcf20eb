package process

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/bgptest"
	"github.com/fairlead-lb/fairlead/announce/bgp/wire"
	"github.com/fairlead-lb/fairlead/lb"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is the process with the sessions, a router, and the speaker's end, all in this process.
type world struct {
	t      *testing.T
	path   string
	router *bgptest.Router
	peer   bgp.Peer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	dir, err := os.MkdirTemp("", "bgp") // t.TempDir is too long for a unix socket
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, path: filepath.Join(dir, "bgp.sock"), router: bgptest.Listen(t)}
	w.peer = w.router.Peer()
	w.peer.GracefulRestart = true
	w.peer.Families = []lb.Family{lb.IPv4}
	return w
}

func (w *world) paths(n int) (out []bgp.Path) {
	for i := range n {
		out = append(out, bgp.Path{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 32)})
	}
	return out
}

// state is what a speaker says that has one peer with n paths.
func (w *world) state(n int) bgp.State {
	p := w.peer
	p.Paths = w.paths(n)
	return bgp.State{Peers: []bgp.Peer{p}, Complete: true, Preserved: true, Seq: 1}
}

// serve runs the process; the result stops it, and returns when it has ended.
func (w *world) serve(o Options) (stop func()) {
	w.t.Helper()
	o.Path, o.Log = w.path, slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, o) }()
	stop = sync.OnceFunc(func() { cancel(); check(w.t, <-ended) })
	w.t.Cleanup(stop)
	return stop
}

// speak runs the speaker's end; the result ends it, which without Keep is a crash to the process.
func (w *world) speak(s bgp.State) (c *Client, end func()) {
	w.t.Helper()
	c, err := NewClient(ClientOptions{Path: w.path, Log: slog.New(slog.DiscardHandler), Changed: func() {}})
	check(w.t, err)
	c.Set(s)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	end = sync.OnceFunc(func() { cancel(); check(w.t, <-ended) })
	w.t.Cleanup(end)
	return c, end
}

// dial connects as a speaker would that then says what the test wants.
func (w *world) dial() net.Conn {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("unix", w.path)
		if err == nil {
			w.t.Cleanup(func() { conn.Close() })
			return conn
		}
		if time.Now().After(end) {
			w.t.Fatal(err)
		}
	}
}

// session waits for a report.
func (w *world) session(c *Client, what string, ok func(bgp.Session) bool) bgp.Session {
	w.t.Helper()
	var last bgp.Report
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if last = c.Report(); len(last.Sessions) == 1 && ok(last.Sessions[0]) {
			return last.Sessions[0]
		}
	}
	w.t.Fatalf("not %s: %+v", what, last)
	return bgp.Session{}
}

// up brings everything up with n paths, of which the router has heard.
func (w *world) up(o Options, n int) (c *Client, end, stop func(), l *bgptest.Line) {
	w.t.Helper()
	stop = w.serve(o)
	c, end = w.speak(w.state(n))
	l = w.router.Accept()
	l.Shake()
	if u := l.Update(); len(u.Announced) != n {
		w.t.Fatalf("the router hears %+v, want %d paths", u, n)
	}
	l.Expect(wire.TypeUpdate) // End-of-RIB
	w.session(c, "told", func(s bgp.Session) bool { return s.State == bgp.Established && s.Sent == n && s.Pending == 0 })
	return c, end, stop, l
}

// The following are the rows of the table in doc.go.

func TestSpeakerCrashes(t *testing.T) {
	w := newWorld(t)
	_, end, _, l := w.up(Options{}, 3)
	end()
	if u := l.Update(); len(u.Withdrawn) != 3 {
		t.Fatalf("the router hears %+v", u)
	}
	w.speak(w.state(2))
	if u := l.Update(); len(u.Announced) != 2 {
		t.Fatalf("when the speaker is back, the router hears %+v on the same session", u)
	}
}

func TestSpeakerCrashesAndPathsAreKept(t *testing.T) {
	w := newWorld(t)
	_, end, _, l := w.up(Options{KeepOnCrash: 2 * time.Second}, 3)
	begun := time.Now()
	end()
	if u := l.Update(); len(u.Withdrawn) != 3 || time.Since(begun) < 2*time.Second {
		t.Fatalf("after %s the router hears %+v", time.Since(begun), u)
	}
}

func TestSpeakerHangs(t *testing.T) {
	w := newWorld(t)
	w.serve(Options{})
	conn := w.dial()
	d := diff(bgp.State{}, w.state(3))
	check(t, write(conn, message{Version: Version}))
	check(t, write(conn, message{State: &d}))
	l := w.router.Accept()
	l.Shake()
	l.Expect(wire.TypeUpdate)
	l.Expect(wire.TypeUpdate)
	if u := l.Update(); len(u.Withdrawn) != 3 {
		t.Fatalf("the router hears %+v", u)
	}
}

// TestCrashedSpeakerReturns: what the old one told stays until the new one has said all that it has to say.
func TestCrashedSpeakerReturns(t *testing.T) {
	w := newWorld(t)
	_, end, _, l := w.up(Options{KeepOnCrash: time.Minute}, 3)
	end()
	s := w.state(1)
	s.Complete = false
	c, _ := w.speak(s)
	w.session(c, "joined", func(s bgp.Session) bool { return s.State == bgp.Established && s.Sent == 3 })
	c.Set(w.state(2))
	if u := l.Update(); len(u.Withdrawn) != 1 || len(u.Announced) != 0 {
		t.Fatalf("the router hears %+v, want only that one path has gone", u)
	}
}

func TestSpeakerRestartsAsPlanned(t *testing.T) {
	for _, graceful := range []bool{true, false} {
		t.Run(fmt.Sprint("graceful restart ", graceful), func(t *testing.T) {
			w := newWorld(t)
			w.peer.GracefulRestart = graceful
			c, end, _, l := w.up(Options{}, 3)
			s := w.state(3)
			s.Keep = true
			c.Set(s)
			end()
			if graceful {
				l.Closed()
				w.speak(w.state(3))
				if o := w.router.Accept().Shake(); !o.Graceful.Restarting {
					t.Error("the session after a restart does not say that it is one")
				}
				return
			}
			if u := l.Update(); len(u.Withdrawn) != 3 {
				t.Fatalf("the router hears %+v", u)
			}
		})
	}
}

func TestBothRestartAsPlanned(t *testing.T) {
	w := newWorld(t)
	c, end, stop, l := w.up(Options{Grace: time.Minute}, 3)
	go stop() // as the kubelet tells both at once
	s := w.state(3)
	s.Keep = true
	c.Set(s)
	end()
	l.Closed()
	w.serve(Options{})
	w.speak(w.state(3))
	if o := w.router.Accept().Shake(); !o.Graceful.Restarting {
		t.Error("the session after a restart does not say that it is one")
	}
}

// TestProcessAloneIsStopped: a speaker that has not ended may be draining, so the router must not keep what it was told.
func TestProcessAloneIsStopped(t *testing.T) {
	w := newWorld(t)
	_, _, stop, l := w.up(Options{Grace: time.Second}, 3)
	go stop()
	l.Notified(wire.Cease, wire.Shutdown)
}

func TestDrain(t *testing.T) {
	w := newWorld(t)
	c, end, stop, l := w.up(Options{Grace: time.Minute}, 3)
	go stop()
	s := w.state(0)
	s.Seq = 2
	c.Set(s)
	if u := l.Update(); len(u.Withdrawn) != 3 {
		t.Fatalf("the router hears %+v", u)
	}
	for c.Report().Seq != 2 {
		time.Sleep(time.Millisecond)
	}
	end()
	l.Notified(wire.Cease, wire.Shutdown)
}

// TestProcessComesBack: the speaker says everything again, and meanwhile reports that nobody is there.
func TestProcessComesBack(t *testing.T) {
	w := newWorld(t)
	c, _, stop, l := w.up(Options{}, 3)
	go stop()
	l.Notified(wire.Cease, wire.Shutdown)
	if s := w.session(c, "gone", func(s bgp.Session) bool { return s.Reason == lb.BGPProcessDown }); s.State != bgp.Idle || s.Pending != 3 {
		t.Errorf("%+v", s)
	}
	w.serve(Options{})
	l = w.router.Accept()
	l.Shake()
	if u := l.Update(); len(u.Announced) != 3 {
		t.Errorf("the router hears %+v", u)
	}
	w.session(c, "back", func(s bgp.Session) bool { return s.State == bgp.Established && s.Sent == 3 })
}

// TestNextProcessKeepsItsSocket: one that takes long to end does not take the socket from the one that came after it.
func TestNextProcessKeepsItsSocket(t *testing.T) {
	w := newWorld(t)
	first := w.serve(Options{})
	w.dial()
	before, err := os.Stat(w.path)
	check(t, err)
	w.serve(Options{})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // nobody says when it listens
		if now, err := os.Stat(w.path); err == nil && !os.SameFile(before, now) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the second process does not listen")
		}
	}
	first()
	w.dial()
}

func TestOtherVersionIsRefused(t *testing.T) {
	w := newWorld(t)
	w.serve(Options{})
	conn := w.dial()
	check(t, write(conn, message{Version: Version + 1}))
	check(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	if m, err := read(conn, maxReport); err == nil {
		t.Errorf("it answers %+v", m)
	}
}

func TestDeltasLeadToTheState(t *testing.T) {
	w := newWorld(t)
	med := uint32(4)
	states := []bgp.State{{}, w.state(3), w.state(200), w.state(0), {}, w.state(2)}
	states[2].Peers[0].Paths[7] = bgp.Path{Prefix: states[2].Peers[0].Paths[7].Prefix, MED: &med, Prepend: 3, Communities: []uint32{1}, Large: []bgp.LargeCommunity{{Global: 1}}, Weight: math.MaxFloat32}
	states[3].Peers[0].BFD = &bgp.BFD{Receive: time.Second}
	states[5].Keep = true
	for _, have := range states {
		for _, want := range states {
			d := diff(have, want)
			var buf bytes.Buffer
			check(t, write(&buf, message{State: &d}))
			m, err := read(&buf, maxState)
			check(t, err)
			if got := m.State.apply(have); !got.Equal(want) || got.Seq != want.Seq {
				t.Errorf("from %+v to %+v leads to %+v", have, want, got)
			}
		}
	}
}

// TestEveryFieldCrosses: a field that is added to the contract and does not arrive at the other end would be ignored in silence.
func TestEveryFieldCrosses(t *testing.T) {
	var s bgp.State
	fill(reflect.ValueOf(&s).Elem())
	d := diff(bgp.State{}, s)
	var buf bytes.Buffer
	check(t, write(&buf, message{State: &d}))
	m, err := read(&buf, maxState)
	check(t, err)
	if got := m.State.apply(bgp.State{}); !reflect.DeepEqual(got, s) {
		t.Errorf("sent\n%+v\narrived\n%+v", s, got)
	}
}

// fill gives every field a value that is not its zero.
func fill(v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *netip.Addr:
		*x = netip.MustParseAddr("192.0.2.9")
		return
	case *netip.Prefix:
		*x = netip.MustParsePrefix("192.0.2.0/25")
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float32:
		v.SetFloat(1.5)
	case reflect.Int64, reflect.Int:
		v.SetInt(3)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(4)
	default:
		panic(fmt.Sprintf("no value for a %s", v.Type()))
	}
}

func TestTooLongMessageIsRefused(t *testing.T) {
	_, err := read(strings.NewReader("\xff\xff\xff\xff{}"), maxReport)
	if err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("%v", err)
	}
}

func FuzzRead(f *testing.F) {
	var buf bytes.Buffer
	d := diff(bgp.State{}, (&world{}).state(2))
	if err := write(&buf, message{State: &d, Report: &bgp.Report{Sessions: []bgp.Session{{Peer: "x"}}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := read(bytes.NewReader(b), maxReport)
		if err == nil && m.State != nil {
			m.State.apply(bgp.State{Peers: []bgp.Peer{{Name: "x", Paths: (&world{}).paths(3)}}})
		}
	})
}

// TestSupervise: what ends is started again at once, and what is told to stop is not.
func TestSupervise(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan time.Time, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- Supervise(ctx, func() *exec.Cmd {
			started <- time.Now()
			if len(started) < 3 {
				return exec.Command("/bin/true")
			}
			return exec.Command("/bin/sleep", "60")
		}, slog.New(slog.DiscardHandler))
	}()
	for len(started) < 3 {
		time.Sleep(time.Millisecond)
	}
	t.Logf("started again after %s", -(<-started).Sub(<-started))
	cancel()
	check(t, <-ended)
}
