package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

func TestTheBusiestServicesHaveSeriesOfTheirOwn(t *testing.T) {
	listener := func(s string) datapath.Listener {
		return datapath.Listener{Addr: netip.MustParseAddrPort(s), Protocol: lb.TCP}
	}
	a, b, c := listener("192.0.2.1:80"), listener("192.0.2.2:80"), listener("192.0.2.3:80")
	servers := []*datapath.VirtualServer{
		{Listener: a, Service: lb.ServiceKey{Namespace: "shop", Name: "a"}},
		{Listener: b, Service: lb.ServiceKey{Namespace: "shop", Name: "b"}},
		{Listener: c, Service: lb.ServiceKey{Namespace: "shop", Name: "c"}},
	}
	counts := []datapath.Count{{Listener: a, Conns: 1, Bytes: 10}, {Listener: a, Conns: 2, Bytes: 20}, {Listener: b, Conns: 9, Bytes: 5},
		{Listener: c, Conns: 1, Bytes: 1}, {Listener: listener("192.0.2.9:80"), Conns: 100}}
	for limit, want := range map[int][]serviceTraffic{
		3: {{"shop/b", 9, 5}, {"shop/a", 3, 30}, {"shop/c", 1, 1}},
		1: {{"shop/b", 9, 5}, {otherServices, 4, 31}},
	} {
		if d := cmp.Diff(want, new(totals).add(counts, servers, limit), cmp.AllowUnexported(serviceTraffic{})); d != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, d)
		}
	}
}

// counting is an engine whose kernel has counted something.
type counting struct {
	Engine
	counts []datapath.Count
}

func (c *counting) Counts(context.Context) ([]datapath.Count, error) { return c.counts, nil }
func (c *counting) HandedOn() (uint64, error)                        { return 0, nil }

// TestTotalsOfServicesDoNotFall: not when endpoints go away, return or begin anew, and not when Services come and go.
func TestTotalsOfServicesDoNotFall(t *testing.T) {
	listener := func(service string) datapath.Listener {
		return datapath.Listener{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, service[0]}), 80), Protocol: lb.TCP}
	}
	at := func(service string, pod byte, conns uint64) datapath.Count {
		return datapath.Count{Listener: listener(service), Destination: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, pod}), 80), Conns: conns, Bytes: 10 * conns}
	}
	type counts = []datapath.Count
	for name, steps := range map[string][]struct {
		services string // those that are there, by their one letter
		reading  counts
		want     string
	}{
		"a rolling update": {
			{"a", counts{at("a", 1, 100), at("a", 2, 100)}, "a=200"},
			{"a", counts{at("a", 2, 110), at("a", 3, 5)}, "a=215"},
			{"a", counts{at("a", 3, 20), at("a", 4, 1)}, "a=231"},
			{"a", counts{}, "a=231"},
		},
		"an endpoint returns": {
			{"a", counts{at("a", 1, 100), at("a", 2, 100)}, "a=200"},
			{"a", counts{at("a", 2, 100)}, "a=200"},
			{"a", counts{at("a", 1, 3), at("a", 2, 100)}, "a=203"},
		},
		"an endpoint returns to a kernel that remembers it": {
			{"a", counts{at("a", 1, 100), at("a", 2, 100)}, "a=200"},
			{"a", counts{at("a", 2, 100)}, "a=200"},
			{"a", counts{at("a", 1, 103), at("a", 2, 100)}, "a=203"},
		},
		"the table was written anew": {
			{"ab", counts{at("a", 1, 100), at("b", 2, 7)}, "a=100 b=7"},
			{"ab", counts{}, "a=100 b=7"},
			{"ab", counts{at("a", 1, 4), at("b", 2, 9)}, "a=104 b=9"}, // what b counted up to 7 is lost
			{"ab", counts{at("a", 1, 1), at("b", 2, 10)}, "a=105 b=10"},
		},
		"a Service is deleted and created": {
			{"ab", counts{at("a", 1, 100), at("b", 2, 7)}, "a=100 b=7"},
			{"b", counts{at("b", 2, 7)}, "b=7"},
			{"ab", counts{at("a", 3, 2), at("b", 2, 7)}, "b=7 a=2"},
		},
		"a Service is deleted and created, and nobody has looked": {
			{"a", counts{at("a", 1, 100)}, "a=100"},
			{"a", counts{at("a", 3, 2)}, "a=102"},
		},
		"more Services than series": {
			{"abcd", counts{at("a", 1, 9), at("b", 2, 8), at("c", 3, 1), at("d", 4, 2)}, "a=9 b=8 others=3"},
			{"abcd", counts{at("a", 1, 9), at("b", 2, 8), at("c", 3, 50), at("d", 4, 2)}, "a=9 b=8 others=52"}, // busier, and yet the places are taken
			{"bcd", counts{at("b", 2, 8), at("c", 3, 50), at("d", 4, 2)}, "b=8 others=52"},                     // what c and d had stays there
			{"bcd", counts{at("b", 2, 9), at("c", 3, 53), at("d", 4, 3)}, "b=9 c=3 others=53"},
			{"bcd", counts{at("b", 2, 9), at("c", 3, 54), at("d", 4, 10)}, "b=9 c=4 others=60"},
			{"abcd", counts{at("a", 1, 5), at("b", 2, 9), at("c", 3, 54), at("d", 4, 10)}, "b=9 c=4 others=65"},
			{"ac", counts{at("a", 1, 6), at("c", 3, 54)}, "c=4 a=1 others=65"},
		},
		"a listener that no Sync has reported": {
			{"", counts{at("a", 1, 100)}, ""},
			{"a", counts{at("a", 1, 101)}, "a=1"},
		},
	} {
		var tally datapath.Tally
		var services totals
		for i, step := range steps {
			var servers []*datapath.VirtualServer
			for _, s := range strings.Split(step.services, "") {
				servers = append(servers, &datapath.VirtualServer{Listener: listener(s), Service: lb.ServiceKey{Name: s}})
			}
			_, growth := tally.Add(step.reading, time.Unix(int64(i), 0))
			var got []string
			for _, s := range services.add(growth, servers, 2) {
				if s.bytes != 10*s.conns {
					t.Errorf("%s, step %d: %s has %d bytes of %d connections", name, i, s.name, s.bytes, s.conns)
				}
				got = append(got, fmt.Sprintf("%s=%d", strings.TrimPrefix(s.name, "/"), s.conns))
			}
			if strings.Join(got, " ") != step.want {
				t.Errorf("%s, step %d: %q, want %q", name, i, got, step.want)
			}
		}
	}
}

// TestSeriesAreKept: there are more Services than have a series, every round one of those with a series is deleted and the one before comes
// back, and all that the series grow by is what there was.
func TestSeriesAreKept(t *testing.T) {
	const all = countedServices + 20
	var servers []*datapath.VirtualServer
	e := &counting{}
	for i := range all {
		l := datapath.Listener{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 80), Protocol: lb.TCP}
		servers = append(servers, &datapath.VirtualServer{Listener: l, Service: lb.ServiceKey{Namespace: "shop", Name: fmt.Sprint(i)}})
		e.counts = append(e.counts, datapath.Count{Listener: l})
	}
	s := &Speaker{o: Options{Engine: e}}
	before := map[string]uint64{}
	for round := range 10 {
		gone, grown := servers[round], uint64(0)
		s.report.reached.Servers = slices.Concat(servers[:round], servers[round+1:])
		for i := range e.counts {
			if servers[i] != gone {
				n := uint64(100 + (i*7+round*131)%all) // others are the busiest each time
				e.counts[i].Conns += n
				grown += n
			}
		}
		delete(before, gone.Service.String())
		_, services := s.readTraffic()
		if len(services) != countedServices+1 {
			t.Fatalf("round %d: %d series", round, len(services))
		}
		now := map[string]uint64{}
		for _, v := range services {
			now[v.name] = v.conns
			if v.conns < before[v.name] {
				t.Errorf("round %d: %s fell from %d to %d", round, v.name, before[v.name], v.conns)
			}
			grown -= v.conns - before[v.name]
			delete(before, v.name)
		}
		if grown != 0 || len(before) > 0 {
			t.Errorf("round %d: what there was is %d more than what the series grew by; without a series are now %v", round, int64(grown), before)
		}
		before = now
	}
}

func TestDifferencesNameWhatTheKernelLacks(t *testing.T) {
	one := datapath.VirtualServer{Listener: datapath.Listener{Addr: netip.MustParseAddrPort("192.0.2.1:80"), Protocol: lb.TCP}, Verdict: datapath.Forward}
	two := one
	two.Listener.Addr = netip.MustParseAddrPort("192.0.2.2:80")
	changed := one
	changed.Verdict = datapath.Drop
	want := datapath.State{Servers: []*datapath.VirtualServer{&one, &two}}
	got := differences(want, datapath.State{Servers: []*datapath.VirtualServer{&changed}})
	if len(got) != 2 || got[1] != "192.0.2.2:80/TCP is missing" {
		t.Errorf("differences: %q", got)
	}
	if got := differences(want, want); got != nil {
		t.Errorf("differences of what is equal: %q", got)
	}
	spare := one // IPVS is not given an endpoint that gets no connections
	spare.Destinations = []datapath.Destination{{Addr: netip.MustParseAddrPort("10.0.0.1:80")}}
	if got := differences(datapath.State{Servers: []*datapath.VirtualServer{&spare}}, datapath.State{Servers: []*datapath.VirtualServer{&one}}); got != nil {
		t.Errorf("differences by an endpoint without weight: %q", got)
	}
}

// TestConnectionsCountOnce: conntrack does not tell whether they came through the listener for everybody or that for the inside.
func TestConnectionsCountOnce(t *testing.T) {
	addr := netip.MustParseAddrPort("10.0.0.1:80")
	for _, tc := range []struct {
		name            string
		outside, inside int  // weights; -1 = the endpoint is not behind it
		at              bool // inside
	}{
		{"both", 1, 1, false},
		{"an endpoint elsewhere, with policy Local", 0, 1, true},
		{"inside only", -1, 1, true},
		{"outside only", 1, -1, false},
		{"none any more", 0, 0, false},
	} {
		s, at := datapath.State{}, map[bool]int{}
		for inside, weight := range map[bool]int{false: tc.outside, true: tc.inside} {
			l := datapath.Listener{Addr: netip.MustParseAddrPort("192.0.2.1:80"), Protocol: lb.TCP, Inside: inside}
			v := &datapath.VirtualServer{Listener: l}
			if weight >= 0 {
				v.Destinations = []datapath.Destination{{Addr: addr, Weight: weight}}
			}
			s.Servers = append(s.Servers, v)
		}
		slices.SortFunc(s.Servers, func(a, b *datapath.VirtualServer) int { return a.Listener.Compare(b.Listener) })
		for _, v := range s.Servers {
			for _, d := range v.Destinations {
				if !countedByTwin(s, v.Listener, d) {
					at[v.Inside]++
				}
			}
		}
		if at[tc.at] != 1 || at[!tc.at] != 0 {
			t.Errorf("%s: counts %d times for everybody, %d inside", tc.name, at[false], at[true])
		}
	}
}
