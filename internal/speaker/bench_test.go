package speaker

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// alone is everything around the only speaker of a cluster, and costs nothing.
type alone struct {
	facts  atomic.Pointer[kube.Facts]
	self   atomic.Pointer[lb.Member]
	synced chan time.Time // when Sync was called with a state that was not there before
	last   datapath.State
}

func (a *alone) Facts(context.Context) (kube.Facts, error)                           { return *a.facts.Load(), nil }
func (a *alone) SetSelf(m lb.Member)                                                 { a.self.Store(&m) }
func (a *alone) Rejoin()                                                             {}
func (a *alone) Known() map[lb.NodeName]netip.Addr                                   { return nil }
func (a *alone) UpToDate(time.Time) bool                                             { return true }
func (a *alone) SetLinks([]lb.Link)                                                  {}
func (a *alone) Working() map[string]bool                                            { return map[string]bool{"eth0": true} }
func (a *alone) Conflicts() map[netip.Addr]lb.MAC                                    { return nil }
func (a *alone) Name() string                                                        { return "none" }
func (a *alone) Event(lb.ServiceKey, bool, string, string)                           {}
func (a *alone) PeerEvent(string, bool, string, string)                              {}
func (a *alone) Watch(ctx context.Context, _ func()) error                           { <-ctx.Done(); return nil }
func (a *alone) Set(t map[netip.Addr]announce.Target) map[netip.Addr]announce.Target { return t }

func (a *alone) Members() []lb.Member {
	m := *a.self.Load()
	m.Node = "n1"
	return []lb.Member{m}
}

func (a *alone) Links() ([]lb.Link, error) {
	return []lb.Link{{Name: "eth0", Index: 2, MAC: lb.MAC{2}, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15")}}}, nil
}

func (a *alone) Sync(_ context.Context, want datapath.State, now time.Time) (datapath.State, error) {
	if !want.Equal(a.last) {
		a.last = want
		a.synced <- now
	}
	return want, nil
}

// BenchmarkChange: from the word that there is news, one endpoint among 10,000 Services, to the call of the engine. All addresses are
// announced here. What the facts cost is internal/kube's, and what the kernel does the engine's.
func BenchmarkChange(b *testing.B) {
	a := &alone{synced: make(chan time.Time, 1)}
	endpoints := map[lb.ServiceKey][]lb.Endpoint{}
	f := kube.Facts{Nodes: map[lb.NodeName]lb.Node{"n1": {Name: "n1"}}, L2: []lb.L2Advertisement{{Name: "all"}}}
	for i := range 10000 {
		key := lb.ServiceKey{Namespace: "bench", Name: fmt.Sprintf("s%05d", i)}
		f.Services = append(f.Services, service(key, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})))
		for j := range 5 {
			e := endpoint("n1")
			e.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(j), byte(i >> 8), byte(i)}), 8080)
			endpoints[key] = append(endpoints[key], e)
		}
	}
	f.Version, f.Endpoints = 1, lb.EndpointsOf(endpoints)
	a.facts.Store(&f)
	a.SetSelf(lb.Member{})
	s, err := New(Options{Node: "n1", Facts: a, Gossip: a, Links: a, Announcer: a, Engine: a, Events: a, Log: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(), DrainTimeout: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	<-a.synced
	for !s.Ready() {
		time.Sleep(stepRest)
	}
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		time.Sleep(10 * syncRest) // the loops rest after work
		now := f
		key := f.Services[i*7919%10000].Key
		now.Endpoints.Set(key, slices.Clone(f.Endpoints.Of(key))[:4-i%2])
		a.facts.Store(&now)
		start := time.Now()
		s.FactsChanged()
		took = append(took, (<-a.synced).Sub(start))
	}
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
}
