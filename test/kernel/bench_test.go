//go:build kernel

package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/lb"
)

// large returns n Services with five endpoints each, one port, every second one with affinity, every third with policy Local.
func large(n int) datapath.State {
	s := lb.Snapshot{Self: "near", Forwards: true}
	for i := range n {
		svc := lb.Service{Key: lb.ServiceKey{Namespace: "bench", Name: fmt.Sprintf("s%05d", i)},
			Ports:   []lb.Port{{Name: "p", Protocol: lb.TCP, Port: 80}},
			Ingress: []lb.Ingress{{Addr: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Mode: lb.ModeProxy}}}
		if i%2 == 0 {
			svc.SessionAffinity = time.Hour
		}
		if i%3 == 0 {
			svc.ExternalTrafficPolicy = lb.Local
		}
		var list []lb.Endpoint
		for j := range 5 {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(100 + j), byte(i >> 8), byte(i)}), 8080)
			list = append(list, lb.Endpoint{PortName: "p", Protocol: lb.TCP, Addr: addr, Node: "near", Ready: true, Serving: true})
		}
		s.Endpoints.Set(svc.Key, list)
		s.Services = append(s.Services, svc)
	}
	return datapath.Desired(s)
}

// without returns the state with one endpoint less in its middle server.
func without(s datapath.State) datapath.State {
	out := s.Clone()
	middle := &out.Servers[len(out.Servers)/2]
	v := **middle
	v.Destinations = v.Destinations[1:]
	*middle = &v
	return out
}

// BenchmarkSync measures what an engine costs: first is everything on an empty node, restart a new instance that finds all of it in
// the kernel, change is one endpoint of one Service coming or going, and same is a call with nothing to do.
func BenchmarkSync(b *testing.B) {
	names := tested()
	if err := build(); err != nil {
		b.Fatal(err)
	}
	for _, name := range names {
		for _, n := range []int{100, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) { benchmarkSync(b, name, large(n)) })
		}
	}
}

func benchmarkSync(b *testing.B, name string, full datapath.State) {
	ctx, now := context.Background(), time.Now()
	open := func(b *testing.B) engine.Engine {
		c, err := engine.Open(ctx, engine.Options{Name: name, ProcSys: link.ProcSys})
		if err != nil {
			b.Fatal(err)
		}
		return c.Engine
	}
	sync := func(b *testing.B, e engine.Engine, s datapath.State) {
		now = now.Add(time.Second)
		if _, err := e.Sync(ctx, s, now); err != nil {
			b.Fatal(err)
		}
	}
	e := open(b)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			sync(b, e, full)
			b.StopTimer()
			if err := e.Cleanup(ctx); err != nil {
				b.Fatal(err)
			}
			e = open(b)
			b.StartTimer()
		}
	})
	sync(b, e, full)
	b.Run("restart", func(b *testing.B) {
		for b.Loop() {
			e = open(b)
			sync(b, e, full)
		}
	})
	less := without(full)
	b.Run("change", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			sync(b, e, []datapath.State{less, full}[i%2])
		}
	})
	sync(b, e, full)
	b.Run("same", func(b *testing.B) {
		for b.Loop() {
			sync(b, e, full)
		}
	})
	if err := e.Cleanup(ctx); err != nil {
		b.Fatal(err)
	}
}
