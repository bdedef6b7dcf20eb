package udp

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/bfd"
)

// still is a loop whose rounds a test calls with times of its own.
type still struct {
	*loop
	t    *testing.T
	now  time.Time
	list []*session
}

func newStill(t *testing.T, o Options, peers int) *still {
	t.Helper()
	o.Name, o.Registerer, o.Log, o.Port = "test", prometheus.NewRegistry(), slog.New(slog.DiscardHandler), freePort(t)
	o.Changed = func(Peer, bfd.Event) {}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	l := &still{loop: newLoop(g), t: t, now: time.Now()}
	t.Cleanup(func() { l.end(); g.close() })
	for i := range peers {
		p := peerOf(1, byte(10+i))
		c := open()
		c.Multiplier = 200
		l.start(p, c, l.now)
		s := l.sessions[p]
		if s.err != nil {
			t.Fatal(s.err)
		}
		l.list = append(l.list, s)
		l.says(s, bfd.Init)
		l.now = l.now.Add(3 * ms)
	}
	return l
}

// says gives a session a packet of its peer and lets it answer.
func (l *still) says(s *session, state bfd.State) {
	l.t.Helper()
	p := bfd.Packet{State: state, Multiplier: 200, MyDiscriminator: 7, YourDiscriminator: s.bfd.Status().Discriminator,
		Final: state == bfd.Up, DesiredMinTx: 20 * ms, RequiredMinRx: ms}
	if drop := s.bfd.Receive(p, l.now); drop != "" {
		l.t.Fatal(drop)
	}
	l.report(s, l.now)
	l.round(l.now)
}

// advance goes on to the next time at which a session is due.
func (l *still) advance() {
	next := l.list[0].bfd.Next()
	for _, s := range l.list {
		next = earlier(next, s.bfd.Next())
	}
	l.roll, l.now = rand.Float64(), next
	l.round(l.now)
}

// TestAligned: sessions that came up one after the other send at the same moment; without the option they do not.
func TestAligned(t *testing.T) {
	t.Parallel()
	for _, aligned := range []bool{true, false} {
		l := newStill(t, Options{Aligned: aligned}, 5)
		together := 0
		for range 50 {
			l.advance()
			same := true
			for _, s := range l.list {
				same = same && s.bfd.Next().Equal(l.list[0].bfd.Next())
			}
			if same {
				together++
			}
		}
		if aligned && together < 48 || !aligned && together > 2 {
			t.Errorf("with Aligned %t all were due together after %d of 50 rounds", aligned, together)
		}
	}
}

// TestBatched: packets wake the loop unless all sessions are quiet; the kernel's timestamp says when a peer was heard all the same.
func TestBatched(t *testing.T) {
	t.Parallel()
	l := newStill(t, Options{Batched: true}, 2)
	listens := func(what string, want bool) {
		t.Helper()
		l.collect()
		l.listen()
		if got := l.polled[1].Events == unix.POLLIN; got != want || l.lazy == want {
			t.Errorf("%s: woken by packets %t, want %t", what, got, want)
		}
	}
	listens("the first round trip is under way", true)
	for _, s := range l.list {
		l.says(s, bfd.Up)
	}
	listens("all is quiet", false)
	l.g.stale.Store(true)
	listens("after a sleep", true)
	l.g.stale.Store(false)
	l.says(l.list[1], bfd.Down)
	listens("one is not Up", true)
	l.g.o.Batched = false
	for _, s := range l.list {
		l.says(s, bfd.Init)
		l.says(s, bfd.Up)
	}
	listens("without the option", true)
}

// TestWiden: a false alarm doubles the intervals, which the peer is told, and time halves them again.
func TestWiden(t *testing.T) {
	t.Parallel()
	l := newStill(t, Options{Widen: true}, 1)
	s := l.list[0]
	intervals := func() (time.Duration, time.Duration) { c := s.bfd.Config(); return c.DesiredMinTx, c.RequiredMinRx }
	l.says(s, bfd.Up)
	l.now = l.now.Add(s.bfd.DetectionTime())
	l.round(l.now)
	if s.bfd.State() != bfd.Down {
		t.Fatalf("state %s after the detection time", s.bfd.State())
	}
	l.says(s, bfd.Init)
	if tx, rx := intervals(); s.bfd.State() != bfd.Up || tx != 40*ms || rx != 40*ms {
		t.Errorf("after a false alarm %s with %s and %s, want Up with 40ms", s.bfd.State(), tx, rx)
	}
	if got := (*l.g.shown.Load())[s.peer].Factor; got != 2 {
		t.Errorf("factor %d is shown, want 2", got)
	}
	l.now = l.now.Add(bfd.PaceDecay)
	l.says(s, bfd.Up)
	if tx, rx := intervals(); tx != 20*ms || rx != 20*ms {
		t.Errorf("after %s without an alarm %s and %s, want 20ms", bfd.PaceDecay, tx, rx)
	}
}

func TestGapLimit(t *testing.T) {
	t.Parallel()
	l := newStill(t, Options{}, 2)
	sent := l.list[0].bfd.Sent()
	if other := l.list[1].bfd.Sent(); other.Before(sent) {
		sent = other
	}
	for _, c := range []struct{ after, want time.Duration }{{0, 4 * time.Second}, {3 * time.Second, time.Second}, {5 * time.Second, 1}} {
		if got := l.gapLimit(sent.Add(c.after)); got != c.want {
			t.Errorf("%s after the last packet the limit is %s, want %s: multiplier 200 x 20ms from then on", c.after, got, c.want)
		}
	}
	l.g.o.GapLimit = time.Second
	if got := l.gapLimit(l.now); got != time.Second {
		t.Errorf("limit %s, want that of the options", got)
	}
	for _, s := range l.list {
		l.says(s, bfd.Down)
	}
	if got := l.gapLimit(l.now); got != 0 {
		t.Errorf("limit %s although nobody watches us, want 0", got)
	}
}

// TestRefusalIsBelievedSeldom: whoever forges ICMP takes a session down once in 5 s, and only if it is Up.
func TestRefusalIsBelievedSeldom(t *testing.T) {
	t.Parallel()
	l := newStill(t, Options{Refused: true}, 1)
	s := l.list[0]
	for _, c := range []struct {
		after time.Duration
		want  bfd.State
	}{{0, bfd.Down}, {refusedEvery - time.Second, bfd.Up}, {time.Second, bfd.Down}} {
		l.now = l.now.Add(c.after)
		l.says(s, bfd.Init)
		l.refuse(s, l.now)
		if got := s.bfd.State(); got != c.want {
			t.Errorf("%s after the last one: %s, want %s", c.after, got, c.want)
		}
	}
}

func TestArrived(t *testing.T) {
	now := time.Now()
	emptied := now.Add(-time.Second)
	for _, c := range []struct {
		name string
		d    datagram
		want time.Time
	}{
		{"no timestamp", datagram{}, now},
		{"10 ms ago", datagram{stamped: true, time: now.Add(-10 * ms).UnixNano()}, now.Add(-10 * ms)},
		{"the clock was set forward since", datagram{stamped: true, time: now.Add(-time.Hour).UnixNano()}, emptied},
		{"the clock was set back since", datagram{stamped: true, time: now.Add(time.Hour).UnixNano()}, now},
	} {
		if got := c.d.arrived(now, emptied); !got.Equal(c.want) {
			t.Errorf("%s: %s from now, want %s", c.name, got.Sub(now), c.want.Sub(now))
		}
	}
}

func FuzzControl(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, controlSpace))
	f.Add([]byte{20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 255, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var d datagram
		d.control(b) // must not panic
		if d.to.IsValid() && d.to.Is4In6() && d.to.Is4() {
			t.Error("an address of two families")
		}
	})
}

// TestSteadyStateAllocatesLittle: packets are free; what remains is the snapshot once a second.
func TestSteadyStateAllocatesLittle(t *testing.T) {
	port, ab, ba := freePort(t), peerOf(1, 2), peerOf(2, 1)
	c := fast()
	c.DesiredMinTx, c.RequiredMinRx, c.Multiplier = 2*ms, 2*ms, 255
	a := run(t, Options{Port: port, Aligned: true, Refused: true, Widen: true}, map[Peer]Config{ab: c})
	b := run(t, Options{Port: port}, map[Peer]Config{ba: c})
	a.state(ab, bfd.Up)
	b.state(ba, bfd.Up)
	time.Sleep(50 * ms)
	start, before := a.metric("packets_sent_total"), allocations()
	time.Sleep(300 * ms)
	used := allocations() - before
	packets := a.metric("packets_sent_total") - start
	t.Logf("%d allocations for %v packets each way", used, packets)
	if used > 100 || packets == 0 {
		t.Errorf("%d allocations for %v packets each way; two snapshots need less than 100", used, packets)
	}
}

func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func TestPeerString(t *testing.T) {
	p := Peer{Local: netip.IPv6Unspecified(), Remote: netip.MustParseAddr("fe80::1"), Interface: "eth0", Multihop: true}
	if got, want := p.String(), "::->fe80::1%eth0 multihop"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// BenchmarkTenPeersAt50ms prints what ten sessions cost one of their ends, in percent of a core.
func BenchmarkTenPeersAt50ms(b *testing.B) {
	for _, batched := range []bool{false, true} {
		b.Run(fmt.Sprintf("batched=%t", batched), func(b *testing.B) { tenPeers(b, batched) })
	}
}

func tenPeers(b *testing.B, batched bool) {
	c := fast()
	c.DesiredMinTx, c.RequiredMinRx = 50*ms, 50*ms
	here, there := map[Peer]Config{}, map[Peer]Config{}
	for i := range byte(10) {
		here[peerOf(1, 10+i)], there[peerOf(10+i, 1)] = c, c
	}
	port := freePort(b)
	a := run(b, Options{Port: port, Aligned: true, Batched: batched, Refused: true}, here)
	other := run(b, Options{Port: port, Aligned: true, Batched: batched, Refused: true}, there)
	for p := range here {
		a.state(p, bfd.Up)
	}
	for p := range there {
		other.state(p, bfd.Up)
	}
	var spent, passed time.Duration
	for b.Loop() {
		before, start := cpuTime(b), time.Now()
		time.Sleep(time.Second)
		spent, passed = spent+cpuTime(b)-before, passed+time.Since(start)
	}
	b.ReportMetric(100*spent.Seconds()/passed.Seconds()/2, "%core/end")
}

// cpuTime returns what the process has used, of user and kernel.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
