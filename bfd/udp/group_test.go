package udp

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/bfd"
)

const ms = time.Millisecond

// patience is how long a test waits for what takes some milliseconds on an idle machine.
const patience = 10 * time.Second

func fast() Config {
	return Config{Config: bfd.Config{DesiredMinTx: 20 * ms, RequiredMinRx: 20 * ms, Multiplier: 25, SlowTx: 20 * ms, Auth: bfd.Keyring{
		Type: bfd.MeticulousKeyedSHA1, Keys: []bfd.Key{{ID: 1, Secret: "secret"}}}}}
}

func loopback(last byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, last}) }

func peerOf(local, remote byte) Peer { return Peer{Local: loopback(local), Remote: loopback(remote)} }

// freePort returns a UDP port that is free on every loopback address a moment ago.
func freePort(t testing.TB) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// running is a Group that runs until the test ends, and what it has reported.
type running struct {
	*Group
	t        testing.TB
	registry *prometheus.Registry
	cancel   context.CancelFunc
	ended    chan error

	nap atomic.Int64 // the loop sleeps so many nanoseconds in the next callback

	mu     sync.Mutex
	events map[Peer][]bfd.Event
	calls  calls
}

// calls counts the callbacks.
type calls struct{ slept, confirmed int }

func (r *running) count() calls {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

func run(t testing.TB, o Options, want map[Peer]Config) *running {
	t.Helper()
	r := &running{t: t, registry: prometheus.NewRegistry(), ended: make(chan error, 1), events: map[Peer][]bfd.Event{}}
	o.Name, o.Registerer, o.Log = "test", r.registry, slog.New(slog.NewTextHandler(io.Discard, nil))
	o.Changed = func(p Peer, e bfd.Event) {
		time.Sleep(time.Duration(r.nap.Swap(0)))
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events[p] = append(r.events[p], e)
	}
	o.Slept = func(time.Duration) { r.mu.Lock(); defer r.mu.Unlock(); r.calls.slept++ }
	o.Confirmed = func(Peer) { r.mu.Lock(); defer r.mu.Unlock(); r.calls.confirmed++ }
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Group = g
	if err := g.Set(want); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	go func() { r.ended <- g.Run(ctx) }()
	t.Cleanup(r.stop)
	return r
}

func (r *running) stop() {
	r.cancel()
	if err := <-r.ended; err != nil {
		r.t.Errorf("Run: %v", err)
	}
	r.ended <- nil // for a second stop
}

// until waits until ok.
func (r *running) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(ms) {
		if time.Now().After(end) {
			r.t.Fatalf("after %s not %s: %+v", patience, what, r.Sessions())
		}
	}
}

func (r *running) state(p Peer, want bfd.State) {
	r.t.Helper()
	r.until("state "+want.String(), func() bool { return r.Sessions()[p].State == want })
}

func (r *running) last(p Peer) bfd.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events[p]) == 0 {
		return bfd.Event{}
	}
	return r.events[p][len(r.events[p])-1]
}

func TestSessionsComeUpAndSayGoodbye(t *testing.T) {
	port, ab, ba := freePort(t), peerOf(1, 2), peerOf(2, 1)
	before := runtime.NumGoroutine()
	a := run(t, Options{Port: port}, map[Peer]Config{ab: fast()})
	b := run(t, Options{Port: port}, map[Peer]Config{ba: fast()})
	a.state(ab, bfd.Up)
	b.state(ba, bfd.Up)
	a.until("confirmed by a round trip", func() bool { return !a.Sessions()[ab].RoundTrip.IsZero() })
	a.stop()
	b.state(ba, bfd.Down)
	if e := b.last(ba); e.Cause != bfd.CausePeerAdminDown {
		t.Errorf("after a graceful stop the peer says %q, want %q", e.Cause, bfd.CausePeerAdminDown)
	}
	b.stop()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(ms) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines before, %d afterwards", before, runtime.NumGoroutine())
		}
	}
	if len(a.Sessions()) != 0 {
		t.Errorf("a group that has ended shows %v", a.Sessions())
	}
	if err := a.Set(map[Peer]Config{ab: fast()}); err != nil {
		t.Errorf("setting sessions of a group that has ended: %v", err)
	}
}

func TestSetChangesAndRemoves(t *testing.T) {
	t.Parallel()
	port, ab, ba := freePort(t), peerOf(1, 2), peerOf(2, 1)
	a := run(t, Options{Port: port}, map[Peer]Config{ab: fast()})
	b := run(t, Options{Port: port}, map[Peer]Config{ba: fast()})
	a.state(ab, bfd.Up)
	b.state(ba, bfd.Up)
	slower := fast()
	slower.DesiredMinTx, slower.RequiredMinRx = 40*ms, 30*ms
	if err := a.Set(map[Peer]Config{ab: slower}); err != nil {
		t.Fatal(err)
	}
	b.until("told the new intervals", func() bool {
		s := b.Sessions()[ba]
		return s.RemoteMinTx == 40*ms && s.RemoteMinRx == 30*ms && s.TxInterval == 30*ms
	})
	if e := b.last(ba); e.To != bfd.Up {
		t.Errorf("the change took the session down: %+v", e)
	}
	if err := a.Set(nil); err != nil {
		t.Fatal(err)
	}
	b.state(ba, bfd.Down)
	if e := b.last(ba); e.Cause != bfd.CausePeerAdminDown {
		t.Errorf("after the removal the peer says %q, want %q", e.Cause, bfd.CausePeerAdminDown)
	}
	if err := a.Set(map[Peer]Config{ab: fast()}); err != nil {
		t.Fatal(err)
	}
	a.state(ab, bfd.Up)
}

func TestSetRefusesWhatIsInvalid(t *testing.T) {
	t.Parallel()
	r := run(t, Options{Port: freePort(t)}, nil)
	zero := fast()
	zero.Multiplier = 0
	v6 := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	for _, c := range []struct {
		peer Peer
		conf Config
		want string
	}{
		{peerOf(1, 2), zero, "Multiplier is 0"},
		{Peer{Local: loopback(1)}, fast(), "lacks an address"},
		{Peer{Local: v6("::"), Remote: loopback(1)}, fast(), "mixes address families"},
		{Peer{Local: v6("::"), Remote: v6("fe80::1%lo"), Interface: "lo"}, fast(), "has a zone"},
		{Peer{Local: v6("::"), Remote: v6("fe80::1")}, fast(), "name its Interface"},
		{Peer{Local: loopback(1), Remote: netip.IPv4Unspecified()}, fast(), "use a unicast address"},
	} {
		good := peerOf(1, 3)
		err := r.Set(map[Peer]Config{c.peer: c.conf, good: fast()})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.peer, err, c.want)
		}
		r.until("serving the valid one", func() bool { s := r.Sessions(); _, ok := s[good]; return ok && len(s) == 1 })
	}
}

func TestOptionsValidate(t *testing.T) {
	good := Options{Name: "x", Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Changed: func(Peer, bfd.Event) {}}
	for _, c := range []struct {
		change func(o *Options)
		want   string
	}{
		{func(*Options) {}, ""},
		{func(o *Options) { o.Name = "" }, "required"},
		{func(o *Options) { o.Changed = nil }, "required"},
		{func(o *Options) { o.Priority = 100 }, "Priority is 100"},
		{func(o *Options) { o.GapLimit = -1 }, "GapLimit is -1ns"},
	} {
		o := good
		c.change(&o)
		err := o.validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestASocketThatIsTakenIsTriedAgain(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	other, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, Options{Port: port}, map[Peer]Config{peerOf(1, 2): fast()})
	r.until("showing the error", func() bool { return r.Sessions()[peerOf(1, 2)].Err != nil })
	if err := r.Sessions()[peerOf(1, 2)].Err; !strings.Contains(err.Error(), "listening on 127.0.0.1") {
		t.Errorf("the error is %v", err)
	}
	other.Close()
	r.until("open", func() bool { return r.Sessions()[peerOf(1, 2)].Err == nil })
}

// metric returns the sum of the counters or gauges of that name that have every label value.
func (r *running) metric(name string, values ...string) (sum float64) {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "fairlead_bfd_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetValue())
			}
			if !slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(have, v) }) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
