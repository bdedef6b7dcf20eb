package heartbeat

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

// node is a Heartbeat on a loopback address.
type node struct {
	*Heartbeat
	met  atomic.Int32
	stop func() error
}

func addr(i byte) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 7, i}) }

func start(t *testing.T, i byte) *node {
	t.Helper()
	n := &node{}
	h, err := New(Options{Addr: addr(i), Port: 47948, Interval: 10 * time.Millisecond, Multiplier: 20, Log: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(), Changed: func() {}, Met: func() { n.met.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	n.Heartbeat = h
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	var ended atomic.Bool
	n.stop = func() error {
		if ended.Swap(true) {
			return nil
		}
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return n
}

func keys(secret byte) []keyring.Key {
	return []keyring.Key{{ID: 1, Secret: [keyring.Size]byte{secret}}}
}

// until fails the test unless it is so within ten seconds: the machine may be busy.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatal(what)
		}
	}
}

func TestWhoIsSuspected(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	a.Watch(map[lb.NodeName]netip.Addr{"b": addr(2), "c": addr(3)}) // nobody is at c
	b.Watch(map[lb.NodeName]netip.Addr{"a": addr(1)})
	if a.met.Load() != 0 {
		t.Error("heard without keys")
	}
	a.SetKeys(keys(1))
	b.SetKeys(keys(1))
	until(t, "a and b do not hear each other", func() bool { return a.met.Load() == 1 && b.met.Load() == 1 })

	if !a.Hears("b") || a.Hears("c") {
		t.Errorf("a hears b: %t, c: %t", a.Hears("b"), a.Hears("c"))
	}
	b.SetKeys(keys(2))
	until(t, "a does not suspect b, whose packets it has to refuse", func() bool { return maps.Equal(a.Suspects(), map[lb.NodeName]bool{"b": false}) })
	if a.Hears("b") {
		t.Error("a hears b, whose packets it has to refuse")
	}
	b.SetKeys(keys(1))
	until(t, "a still suspects b", func() bool { return len(a.Suspects()) == 0 && a.met.Load() == 2 })

	if err := b.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	time.Sleep(300 * time.Millisecond) // a detection time and a half
	if got := a.Suspects(); len(got) > 0 {
		t.Errorf("a suspects %v: b said goodbye, c was never heard", got)
	}
	if !a.Fresh() {
		t.Error("a is not fresh although it never slept")
	}
}

func TestAForgottenNodeIsNoSuspect(t *testing.T) {
	a, b := start(t, 4), start(t, 5)
	a.SetKeys(keys(1))
	b.SetKeys(keys(1))
	a.Watch(map[lb.NodeName]netip.Addr{"b": addr(5)})
	b.Watch(map[lb.NodeName]netip.Addr{"a": addr(4)})
	until(t, "a and b do not hear each other", func() bool { return a.met.Load() == 1 })
	b.SetKeys(keys(2))
	until(t, "a does not suspect b", func() bool { return len(a.Suspects()) == 1 })
	a.Watch(nil)
	if got := a.Suspects(); len(got) > 0 {
		t.Errorf("a suspects %v, whom it does not watch", got)
	}
}

func TestOptions(t *testing.T) {
	good := Options{Addr: addr(1), Port: 1, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Changed: func() {}, Met: func() {}}
	if o, err := good.validate(); err != nil || o.Interval != 50*time.Millisecond || o.Multiplier != 3 {
		t.Errorf("got %+v, %v", o, err)
	}
	for name, edit := range map[string]func(*Options){
		"no address": func(o *Options) { o.Addr = netip.Addr{} },
		"no port":    func(o *Options) { o.Port = 0 },
		"too fast":   func(o *Options) { o.Interval = time.Millisecond },
		"too slow":   func(o *Options) { o.Interval = time.Minute },
		"no log":     func(o *Options) { o.Log = nil },
	} {
		o := good
		edit(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
