package speaker

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// Counter is an engine that counts; it does so while Sync runs.
type Counter interface {
	Counts(ctx context.Context) ([]datapath.Count, error)
	HandedOn() (packets uint64, err error) // to other nodes; begins anew when it is others
}

// The limits of counting: how many Services have a series of their own, the busiest ones, while the others share one; and how long the kernel
// may take to tell.
const (
	countedServices = 500
	countPatience   = 5 * time.Second
)

// otherServices is the name that the Services beyond countedServices share.
const otherServices = "others"

// traffic reads an engine's counts and adds them up. It is safe for concurrent use.
type traffic struct {
	mu    sync.Mutex
	tally datapath.Tally
}

// read returns the counts since this process began to look, or nothing from an engine that does not count.
func (t *traffic) read(e Engine) []datapath.Count {
	counter, ok := e.(Counter)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), countPatience)
	defer cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	counts, err := counter.Counts(ctx)
	if err != nil {
		return nil // the next Sync meets the same and says so
	}
	return t.tally.Add(counts)
}

// handedOn returns how many packets went on to other nodes, if the engine says so.
func handedOn(e Engine) (packets uint64, ok bool) {
	counter, ok := e.(Counter)
	if !ok {
		return 0, false
	}
	packets, err := counter.HandedOn()
	return packets, err == nil // the next Sync meets the same and says so
}

// serviceTraffic is what a Service has carried on this node.
type serviceTraffic struct {
	name         string
	conns, bytes uint64
}

// perService sums counts by the Service whose listener it is, the busiest first, and those beyond the limit under one name.
func perService(counts []datapath.Count, servers []*datapath.VirtualServer, limit int) []serviceTraffic {
	sums := map[lb.ServiceKey]serviceTraffic{}
	state := datapath.State{Servers: servers}
	for _, c := range counts {
		if v, ok := state.Server(c.Listener); ok {
			s := sums[v.Service]
			sums[v.Service] = serviceTraffic{v.Service.String(), s.conns + c.Conns, s.bytes + c.Bytes}
		}
	}
	out := make([]serviceTraffic, 0, len(sums))
	for _, s := range sums {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b serviceTraffic) int {
		return cmp.Or(cmp.Compare(b.conns, a.conns), cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.name, b.name))
	})
	if len(out) <= limit {
		return out
	}
	rest := serviceTraffic{name: otherServices}
	for _, s := range out[limit:] {
		rest.conns, rest.bytes = rest.conns+s.conns, rest.bytes+s.bytes
	}
	return append(out[:limit:limit], rest)
}

func (m *metrics) collectTraffic(ch chan<- prometheus.Metric) {
	s := m.speaker
	s.mu.Lock()
	servers := s.report.reached.Servers
	s.mu.Unlock()
	for _, t := range perService(s.traffic.read(s.o.Engine), servers, countedServices) {
		ch <- prometheus.MustNewConstMetric(m.connections, prometheus.CounterValue, float64(t.conns), t.name)
		ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.CounterValue, float64(t.bytes), t.name)
	}
	if n, ok := handedOn(s.o.Engine); ok {
		ch <- prometheus.MustNewConstMetric(m.handedOn, prometheus.CounterValue, float64(n))
	}
}

// differences describes the servers that the kernel does not hold as they are wanted, one line each.
func differences(want, reached datapath.State) []string {
	var out []string
	for _, w := range want.Servers {
		has, ok := reached.Server(w.Listener)
		switch {
		case !ok && !w.NodePort(): // an engine may hold a node port as one server for each address
			out = append(out, w.Listener.String()+" is missing")
		case ok && !has.Equal(w):
			out = append(out, w.Listener.String()+" is not as wanted, which is "+w.String())
		}
	}
	return out
}

// openConnections returns who tells how many connections an endpoint of a listener carries: conntrack, or, where it cannot be read, the
// engine, which knows those that an endpoint without weight waits for.
func (s *Speaker) openConnections(forwarded datapath.State) func(datapath.Listener, datapath.Destination) int {
	waiting := func(_ datapath.Listener, d datapath.Destination) int { return d.Conns }
	if s.o.Flows == nil {
		return waiting
	}
	ctx, cancel := context.WithTimeout(context.Background(), countPatience)
	defer cancel()
	open, err := s.o.Flows.Open(ctx, forwarded)
	if err != nil {
		s.o.Log.Warn("connections not counted", "err", err)
		return waiting
	}
	return func(l datapath.Listener, d datapath.Destination) int {
		if l.Inside { // conntrack does not tell whose listener it was: what both have counts once
			l = l.ForEverybody()
			v, _ := forwarded.Server(l)
			if slices.ContainsFunc(v.Destinations, func(other datapath.Destination) bool { return other.Addr == d.Addr }) {
				return 0
			}
		}
		return open[datapath.Count{Listener: l, Destination: d.Addr}]
	}
}
