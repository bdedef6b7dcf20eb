package speaker

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
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

// The limits of counting: how many Services have a series of their own, while the others share one; and how long the kernel may take to tell.
const (
	countedServices = 500
	countPatience   = 5 * time.Second
)

// otherServices is the name that the Services beyond countedServices share.
const otherServices = "others"

// traffic reads an engine's counts and adds them up, at each place and for each Service.
type traffic struct {
	mu     sync.Mutex // held by whoever reads
	tally  datapath.Tally
	totals totals
}

// readTraffic returns what the engine has counted at each place, and what each Service has carried, since this process began to look; or
// nothing from an engine that does not count.
func (s *Speaker) readTraffic() ([]datapath.Count, []serviceTraffic) {
	counter, ok := s.o.Engine.(Counter)
	if !ok {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), countPatience)
	defer cancel()
	s.traffic.mu.Lock()
	defer s.traffic.mu.Unlock()
	counts, err := counter.Counts(ctx)
	if err != nil {
		return nil, nil // the next Sync meets the same and says so
	}
	s.mu.Lock()
	servers := s.report.reached.Servers
	s.mu.Unlock()
	places, growth := s.traffic.tally.Add(counts, time.Now())
	return places, s.traffic.totals.add(growth, servers, countedServices)
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

func (s *serviceTraffic) add(conns, bytes uint64) { s.conns, s.bytes = s.conns+conns, s.bytes+bytes }

// busier orders the busiest first.
func busier(a, b serviceTraffic) int {
	return cmp.Or(cmp.Compare(b.conns, a.conns), cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.name, b.name))
}

// totals are what Services have carried. None falls while its Service is there: what an endpoint that is gone has carried stays in it, and a
// Service that has a series of its own keeps it. The zero value is empty.
type totals struct {
	own    map[lb.ServiceKey]serviceTraffic
	others serviceTraffic
}

// add takes in what is new at every place and returns the totals, the busiest first, with the others last. Up to limit Services have a series
// of their own, until no server is theirs any more. One that is free goes to the Service without that has most that is new, and begins
// with this: what the Service had before stays with the others.
func (t *totals) add(growth []datapath.Count, servers []*datapath.VirtualServer, limit int) []serviceTraffic {
	gone := maps.Clone(t.own)
	for _, v := range servers {
		delete(gone, v.Service)
	}
	for key := range gone {
		delete(t.own, key)
	}
	if t.own == nil {
		t.own = map[lb.ServiceKey]serviceTraffic{}
	}
	grown := perService(growth, servers)
	for _, key := range slices.SortedFunc(maps.Keys(grown), func(a, b lb.ServiceKey) int { return busier(grown[a], grown[b]) }) {
		g := grown[key]
		switch s, has := t.own[key]; {
		case has:
			s.add(g.conns, g.bytes)
			t.own[key] = s
		case len(t.own) < limit:
			t.own[key] = g
		default:
			t.others.name = otherServices
			t.others.add(g.conns, g.bytes)
		}
	}
	out := slices.SortedFunc(maps.Values(t.own), busier)
	if t.others.name != "" {
		out = append(out, t.others)
	}
	return out
}

// perService sums counts by the Service whose listener it is. Those of a listener that no Sync has reported yet are nobody's.
func perService(counts []datapath.Count, servers []*datapath.VirtualServer) map[lb.ServiceKey]serviceTraffic {
	sums := map[lb.ServiceKey]serviceTraffic{}
	state := datapath.State{Servers: servers}
	for _, c := range counts {
		if c.Conns == 0 && c.Bytes == 0 {
			continue
		}
		if v, ok := state.Server(c.Listener); ok {
			s := sums[v.Service]
			s.name = v.Service.String()
			s.add(c.Conns, c.Bytes)
			sums[v.Service] = s
		}
	}
	return sums
}

func (m *metrics) collectTraffic(ch chan<- prometheus.Metric) {
	s := m.speaker
	_, services := s.readTraffic()
	for _, t := range services {
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
		case ok && !has.Holds(w):
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
		if countedByTwin(forwarded, l, d) {
			return 0
		}
		if l.Inside {
			l = l.ForEverybody()
		}
		return open[datapath.Count{Listener: l, Destination: d.Addr}]
	}
}

// countedByTwin reports whether connections to an endpoint that is behind a listener for everybody and one for the inside are the other one's:
// conntrack does not tell through which they came, so they count once, where the endpoint has the greater weight, else for everybody.
func countedByTwin(s datapath.State, l datapath.Listener, d datapath.Destination) bool {
	if l.Tunnelled {
		return false
	}
	twin := l
	twin.Inside = !l.Inside
	v, _ := s.Server(twin)
	i, both := slices.BinarySearchFunc(v.Destinations, d.Addr, func(other datapath.Destination, a netip.AddrPort) int { return other.Addr.Compare(a) })
	return both && (v.Destinations[i].Weight > d.Weight || l.Inside && v.Destinations[i].Weight == d.Weight)
}
