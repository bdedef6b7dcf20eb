package datapath_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// mutate changes one thing about a cluster; it writes only to what it replaces.
func mutate(r *rand.Rand, s *lb.Snapshot) {
	edit := func(list *[]lb.Service, f func(*lb.Service)) {
		if len(*list) > 0 {
			*list = slices.Clone(*list)
			f(&(*list)[r.IntN(len(*list))])
		}
	}
	list := &s.Others
	if r.IntN(2) == 0 {
		list = &s.Services
	}
	endpoint := func(svc *lb.Service) {
		eps := slices.Clone(s.Endpoints.Of(svc.Key))
		e := &eps[r.IntN(len(eps))]
		e.Ready, e.Terminating = r.IntN(2) == 0, r.IntN(2) == 0
		s.Endpoints.Set(svc.Key, eps)
	}
	switch r.IntN(12) {
	case 0, 1: // an endpoint, and the lists of Services stay as they are
		if len(*list) > 0 {
			endpoint(&(*list)[r.IntN(len(*list))])
		}
	case 2:
		edit(list, endpoint)
	case 8: // nothing
	case 3:
		edit(list, func(svc *lb.Service) { svc.ExternalTrafficPolicy = []lb.TrafficPolicy{lb.Cluster, lb.Local}[r.IntN(2)] })
	case 4: // an address that others may have too
		edit(list, func(svc *lb.Service) {
			svc.ExternalIPs = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(r.IntN(3))})}
		})
	case 5:
		if len(*list) > 1 {
			i := r.IntN(len(*list))
			*list = slices.Delete(slices.Clone(*list), i, i+1)
		}
	case 6: // a Service changes sides
		if from, to := &s.Services, &s.Others; len(*from) > 1 {
			i := r.IntN(len(*from))
			svc := (*from)[i]
			*from = slices.Delete(slices.Clone(*from), i, i+1)
			*to = append(slices.Clone(*to), svc)
			slices.SortFunc(*to, func(a, b lb.Service) int { return a.Key.Compare(b.Key) })
		}
	case 9:
		edit(list, func(svc *lb.Service) { svc.Forwarding = []lb.Method{"", lb.NAT, lb.DSR}[r.IntN(3)] })
	case 10:
		s.Pools = []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: netip.IPv4Unspecified(), To: netip.MustParseAddr("255.255.255.255")}},
			Forwarding: []lb.Method{"", lb.NAT, lb.DSR}[r.IntN(3)]}}
	case 11:
		s.NoTunnel = map[lb.NodeName]lb.Refusal{lb.NodeName(fmt.Sprint("n", 1+r.IntN(60))): {Message: "it is so"}}
	case 7:
		s.Down = map[lb.NodeName]bool{lb.NodeName(fmt.Sprint("n", 2+r.IntN(4))): true}
	}
}

// TestDeciderForgetsNothing: its answers are those of somebody who was asked for the first time.
func TestDeciderForgetsNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 8 {
		s := cluster(40)
		var d datapath.Decider
		before, was := d.Desired(s), ""
		for round := range 50 {
			was = before.String()
			mutate(r, &s)
			got, want := d.Desired(s), datapath.Desired(s)
			if d := cmp.Diff(want.String(), got.String()); d != "" {
				t.Fatalf("round %d (-fresh +again):\n%s", round, d)
			}
			if !got.Equal(want) || !slices.IsSortedFunc(got.Servers, func(a, b *datapath.VirtualServer) int { return a.Listener.Compare(b.Listener) }) {
				t.Fatalf("round %d: not equal, or not sorted:\n%s", round, got)
			}
			if got.Keeps(before) != want.Keeps(before) {
				t.Fatalf("round %d: whether it keeps what was before depends on what it shares with it:\n%s\nand before\n%s", round, got, before)
			}
			if before.String() != was {
				t.Fatalf("round %d: the answer before was written to", round)
			}
			before = got
		}
	}
}

// TestHostileServices: what one Service can cost is bounded, the rest goes on, and somebody is told.
func TestHostileServices(t *testing.T) {
	many := func(n int) []lb.Endpoint {
		var out []lb.Endpoint
		for i := range n {
			out = append(out, ep(fmt.Sprintf("10.%d.%d.%d:8080", i>>16, i>>8&255, i&255), []string{"n1", "n2"}[i%2], "rs"))
		}
		return out
	}
	for name, tc := range map[string]struct {
		s            lb.Snapshot
		reason       lb.Reason
		servers, max int // listeners, and destinations of each at most
		fate         string
	}{
		"4,000 endpoints are fine": {full(shop(), many(4000)...), "", 4, 4000, ""},
		"100,000 endpoints":        {full(shop(), many(100000)...), lb.TooManyEndpoints, 4, 4000, ""},
		"ports times addresses": {full(shop(func(s *lb.Service) {
			s.Ports = nil
			for i := range 1000 {
				s.Ports = append(s.Ports, lb.Port{Name: "http", Protocol: lb.TCP, Port: uint16(1 + i)})
			}
			for i := range 100 {
				s.ExternalIPs = append(s.ExternalIPs, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}))
			}
		}), here), lb.TooManyListeners, 4096, 1, ""},
		"endpoints times listeners": {full(shop(func(s *lb.Service) {
			s.Ports = nil
			for i := range 100 {
				s.Ports = append(s.Ports, lb.Port{Name: "http", Protocol: lb.TCP, Port: uint16(1 + i)})
			}
		}), many(4000)...), lb.TooManyListeners, 32, 4000, ""},
		"ranges beyond number let nobody in": {full(shop(func(s *lb.Service) {
			for i := range 3000 {
				s.SourceRanges = append(s.SourceRanges, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, byte(i >> 7), byte(i << 1), 0}), 24))
			}
		}), here), lb.TooManySourceRanges, 4, 1, "DROP"},
	} {
		t.Run(name, func(t *testing.T) {
			state := datapath.Desired(tc.s)
			if len(state.Servers) != tc.servers {
				t.Errorf("%d servers, want %d", len(state.Servers), tc.servers)
			}
			for _, v := range state.Servers {
				if len(v.Destinations) > tc.max {
					t.Errorf("%s has %d destinations, want %d at most", v.Listener, len(v.Destinations), tc.max)
				}
			}
			var reasons []string
			for _, r := range state.Refused {
				reasons = append(reasons, string(r.Reason))
			}
			if got := strings.Join(reasons, " "); got != string(tc.reason) {
				t.Errorf("reasons %q, want %q", got, tc.reason)
			}
			if tc.fate != "" {
				try(t, kernelOf(t, tc.s), "client 192.0.2.200:80 = "+tc.fate)
			}
		})
	}
}

// TestManyPortsOfManyEndpoints: what a Service's ports cost to decide about grows with the endpoints, not with ports times endpoints, which
// would take minutes here.
func TestManyPortsOfManyEndpoints(t *testing.T) {
	const ports, pods = 4000, 50
	svc := web(func(s *lb.Service) { s.Ports = nil })
	var eps []lb.Endpoint
	for p := range ports {
		name := fmt.Sprintf("p%04d", p)
		svc.Ports = append(svc.Ports, lb.Port{Name: name, Protocol: lb.TCP, Port: uint16(1 + p)})
		for i := range pods {
			eps = append(eps, ep(fmt.Sprintf("10.0.1.%d:%d", i, 1+p), "n1", "rs", func(e *lb.Endpoint) { e.PortName = name }))
		}
	}
	state := datapath.Desired(external(svc, eps...))
	if len(state.Servers) != 1<<17/pods || len(state.Refused) != 1 || state.Refused[0].Reason != lb.TooManyListeners {
		t.Errorf("%d servers, refused %v", len(state.Servers), state.Refused)
	}
	for _, v := range state.Servers {
		if len(v.Destinations) != pods || v.Destinations[0].Addr.Port() != v.Addr.Port() {
			t.Fatalf("endpoints of another port:\n%s", v)
		}
	}
}

// TestNobodyTakesAnAddressAway: who writes the ClusterIP, the assigned address or a node port's place of another Service into externalIPs
// gets nothing, whatever the names.
func TestNobodyTakesAnAddressAway(t *testing.T) {
	victim := shop()
	for what, addr := range map[string]string{"ClusterIP": cip, "load-balancer address": vip} {
		thief := web(func(s *lb.Service) {
			s.Key.Name, s.Ingress = "a", nil
			s.ClusterIPs, s.ExternalIPs = []netip.Addr{netip.MustParseAddr("10.96.0.66")}, []netip.Addr{netip.MustParseAddr(addr)}
		})
		s := full(thief, ep("10.0.1.66:8080", "n1", "rs"))
		s.Services = append(s.Services, victim)
		s.Endpoints.Set(victim.Key, []lb.Endpoint{here})
		want := fmt.Sprintf("[shop/a: ListenerTaken: %s:80/TCP is served for shop/web, which has it as its %s; change the port or the address of one of them]", addr, what)
		if got := fmt.Sprint(datapath.Desired(s).Refused); got != want {
			t.Errorf("refused %s, want %s", got, want)
		}
		try(t, kernelOf(t, s), "client "+addr+":80 = 10.0.1.1:8080 masqueraded", "pod 10.96.0.66:80 = 10.0.1.66:8080")
	}
}

// TestS75Schedulers: every Service its own; a name that is none is reported, and the Service served all the same.
func TestS75Schedulers(t *testing.T) {
	for _, name := range []string{"", "rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq", "fastest", "MH"} {
		state := datapath.Desired(external(web(func(s *lb.Service) { s.Scheduler = name }), here))
		want, refused := name, ""
		switch name {
		case "":
			want = "rr"
		case "fastest", "MH":
			want, refused = "rr", fmt.Sprintf(`shop/web: UnknownScheduler: annotation fairlead.dev/scheduler is %q, so that rr is used; write rr, wrr, lc, wlc, sh, mh, sed, nq, or delete it`, name)
		}
		if got := state.Servers[0].Scheduler; got != want {
			t.Errorf("%q: scheduler %s, want %s", name, got, want)
		}
		if got := fmt.Sprint(state.Refused); got != "["+refused+"]" {
			t.Errorf("%q: refused %s, want %s", name, got, refused)
		}
	}
}

// TestS70ListenerTaken: of two Services that claim one listener the first by name has it, with its own two lists, until it goes.
func TestS70ListenerTaken(t *testing.T) {
	first := web(func(s *lb.Service) { s.Key.Name = "a" })
	second := web(local, func(s *lb.Service) { s.Key.Name = "b" })
	s := external(first, here)
	s.Services = append(s.Services, second)
	s.Endpoints.Set(second.Key, []lb.Endpoint{there, ep("10.0.1.9:8080", "n1", "rs")})
	var d datapath.Decider
	for range 2 {
		state := d.Desired(s)
		if len(state.Servers) != 1 || state.Servers[0].Service != first.Key {
			t.Fatalf("want one server, of a:\n%s", state)
		}
		want := "shop/b: ListenerTaken: 192.0.2.200:80/TCP is served for shop/a, which has it too and comes first by name; change the port or the address of one of them"
		if len(state.Refused) != 1 || state.Refused[0].String() != want {
			t.Errorf("refused %v, want %s", state.Refused, want)
		}
		try(t, kernelOf(t, s), "client 192.0.2.200:80 = 10.0.1.1:8080 masqueraded", "pod 192.0.2.200:80 = 10.0.1.1:8080 masqueraded")
	}
	s.Services = s.Services[1:]
	if state := d.Desired(s); len(state.Refused) != 0 || len(state.Servers) != 2 {
		t.Errorf("b alone:\n%s", state)
	}
	try(t, kernelOf(t, s), "client 192.0.2.200:80 = 10.0.1.9:8080", "pod 192.0.2.200:80 = 10.0.1.9:8080", "pod 192.0.2.200:80 = 10.0.2.1:8080")
}
