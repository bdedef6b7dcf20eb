package tunnel

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// snapshot is three nodes with addresses of both families, of which n2 has endpoints of one Service with dsr in IPv4, n3 in both.
func snapshot() lb.Snapshot {
	svc := lb.Service{Key: lb.ServiceKey{Namespace: "shop", Name: "web"}, Forwarding: lb.DSR, Ports: []lb.Port{{Protocol: lb.TCP, Port: 80}},
		Ingress: []lb.Ingress{{Addr: addr("192.0.2.200"), Mode: lb.ModeProxy}, {Addr: addr("2001:db8::200"), Mode: lb.ModeProxy}}}
	endpoint := func(a string, n lb.NodeName, ready bool) lb.Endpoint {
		return lb.Endpoint{Addr: netip.MustParseAddrPort(a), Protocol: lb.TCP, Node: n, Ready: ready, Serving: true}
	}
	s := lb.Snapshot{Self: "n1", Services: []lb.Service{svc}, Nodes: map[lb.NodeName]lb.Node{}, Endpoints: lb.EndpointsOf(map[lb.ServiceKey][]lb.Endpoint{svc.Key: {
		endpoint("192.0.2.3:80", "n3", true), endpoint("10.244.0.2:443", "n2", true), endpoint("10.244.0.12:80", "n2", true), endpoint("10.244.0.2:80", "n2", true), endpoint("10.244.0.1:80", "n2", false),
		endpoint("[2001:db8:7::3]:80", "n3", true), endpoint("10.244.0.9:80", "n9", true)}})}
	for i := 1; i <= 3; i++ {
		s.Nodes[name(i)] = lb.Node{Name: name(i), Addrs: []netip.Addr{host(i), addr("2001:db8::" + string(rune('0'+i)))}}
		s.Members = append(s.Members, lb.Member{Node: name(i), Ready: true})
	}
	return s
}

func TestPeers(t *testing.T) {
	six := func(i string) netip.Addr { return addr("2001:db8::" + i) }
	n2 := []Peer{{Node: "n2", Self: host(1), Host: host(2), Asked: true}, {Node: "n2", Self: six("1"), Host: six("2")}}
	n3 := []Peer{{Node: "n3", Self: host(1), Host: host(3), Asked: true}, {Node: "n3", Self: six("1"), Host: six("3"), Asked: true}}
	for _, tc := range []struct {
		name string
		edit func(*lb.Snapshot)
		want []Peer
	}{
		{"all", func(*lb.Snapshot) {}, slices.Concat(n2, n3)},
		{"nobody wants dsr", func(s *lb.Snapshot) { s.Services[0].Forwarding = lb.NAT }, nil},
		{"the operator wants it", func(s *lb.Snapshot) { s.Services[0].Forwarding, s.Forwarding.Method = "", lb.DSR }, slices.Concat(n2, n3)},
		{"it has no address yet", func(s *lb.Snapshot) { s.Services[0].Ingress = nil }, nil},
		{"n2 is down", func(s *lb.Snapshot) { s.Down = map[lb.NodeName]bool{"n2": true} }, n3},
		{"n2 is starting", func(s *lb.Snapshot) { s.Members[1].Ready = false }, n3},
		{"n3 has no speaker", func(s *lb.Snapshot) { s.Members = s.Members[:2] }, n2},
		{"this node is alone", func(s *lb.Snapshot) { s.Members = s.Members[:1] }, nil},
		{"n3 is not known", func(s *lb.Snapshot) { delete(s.Nodes, "n3") }, n2},
		{"this node has IPv4 only", func(s *lb.Snapshot) { s.Nodes["n1"] = lb.Node{Addrs: []netip.Addr{host(1)}} }, []Peer{n2[0], n3[0]}},
	} {
		s := snapshot()
		tc.edit(&s)
		got, wanted := Peers(s)
		if unwanted := tc.name == "nobody wants dsr" || tc.name == "it has no address yet"; wanted == unwanted {
			t.Errorf("%s: wanted: %t", tc.name, wanted)
		}
		if d := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
}

func TestPodsOf(t *testing.T) {
	server := func(listener string, tunnelled bool, weights map[string]int) *datapath.VirtualServer {
		v := &datapath.VirtualServer{Listener: datapath.Listener{Addr: netip.MustParseAddrPort(listener), Protocol: lb.TCP, Tunnelled: tunnelled}}
		for _, a := range slices.Sorted(maps.Keys(weights)) {
			v.Destinations = append(v.Destinations, datapath.Destination{Addr: netip.MustParseAddrPort(a), Weight: weights[a], Method: datapath.NAT})
		}
		return v
	}
	draining := server("192.0.2.200:80", true, map[string]int{"10.244.0.1:80": 0, "10.244.0.2:80": 0})
	for _, tc := range []struct {
		name    string
		servers []*datapath.VirtualServer
		four    Pods
		six     Pods
	}{
		{"nothing", nil, Pods{}, Pods{}},
		{"not through the tunnel", []*datapath.VirtualServer{server("192.0.2.200:80", false, map[string]int{"10.244.0.1:80": 1})}, Pods{}, Pods{}},
		{"all drain", []*datapath.VirtualServer{draining}, Pods{pod(1), pod(2)}, Pods{}},
		{"some drain", []*datapath.VirtualServer{draining, server("192.0.2.200:81", true, map[string]int{"10.244.0.3:80": 1})}, Pods{pod(3)}, Pods{}},
		{"one by several ports, and more than are told of", []*datapath.VirtualServer{
			server("192.0.2.200:80", true, map[string]int{"10.244.0.1:80": 1, "10.244.0.1:81": 1, "10.244.0.2:80": 1}),
			server("192.0.2.200:81", true, map[string]int{"10.244.0.2:80": 1, "10.244.0.3:80": 1, "10.244.0.4:80": 1})}, Pods{pod(1), pod(2), pod(3)}, Pods{}},
		{"IPv6", []*datapath.VirtualServer{server("[2001:db8::200]:80", true, map[string]int{"[2001:db8:7::3]:80": 1})}, Pods{}, Pods{addr("2001:db8:7::3")}},
	} {
		state := datapath.State{Servers: tc.servers}
		if four, six := PodsOf(state, lb.IPv4), PodsOf(state, lb.IPv6); four != tc.four || six != tc.six {
			t.Errorf("%s: %v and %v, want %v and %v", tc.name, four, six, tc.four, tc.six)
		}
	}
}
