package datapath_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// cluster is a node's view of n Services in mode full, each with a ClusterIP, a node port, an address of ours for every tenth, and
// five endpoints.
func cluster(n int) lb.Snapshot {
	endpoints := map[lb.ServiceKey][]lb.Endpoint{}
	s := lb.Snapshot{Self: "n1", Forwards: true,
		Forwarding: lb.Forwarding{Full: true, Pods: lb.PodDetection{Ranges: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/9")}}},
		Addrs:      []netip.Addr{netip.MustParseAddr("192.0.2.11")},
		Nodes:      map[lb.NodeName]lb.Node{"n1": {Name: "n1", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.11")}}}}
	for i := range n {
		svc := lb.Service{
			Key:        lb.ServiceKey{Namespace: "shop", Name: fmt.Sprintf("s%05d", i)},
			Ports:      []lb.Port{{Name: "http", Protocol: lb.TCP, Port: 80, NodePort: uint16(30000 + i)}},
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
		}
		for j := range 5 {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(128 + j), byte(i >> 8), byte(i)}), 8080)
			endpoints[svc.Key] = append(endpoints[svc.Key],
				lb.Endpoint{PortName: "http", Protocol: lb.TCP, Addr: addr, Node: lb.NodeName(fmt.Sprint("n", j+1)), Ready: true, Serving: true})
		}
		if i%10 > 0 {
			s.Others = append(s.Others, svc)
			continue
		}
		svc.Ingress = []lb.Ingress{{Addr: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), Mode: lb.ModeProxy}}
		svc.ExternalTrafficPolicy = lb.Local
		s.Services = append(s.Services, svc)
	}
	s.Endpoints = lb.EndpointsOf(endpoints)
	return s
}

// BenchmarkDesired: what a step costs after nothing, after one endpoint, and from nothing, among 10,000 Services.
func BenchmarkDesired(b *testing.B) {
	s := cluster(10000)
	b.Run("from nothing", func(b *testing.B) {
		for b.Loop() {
			datapath.Desired(s)
		}
	})
	b.Run("no change", func(b *testing.B) {
		var d datapath.Decider
		d.Desired(s)
		for b.Loop() {
			d.Desired(s)
		}
	})
	b.Run("one endpoint", func(b *testing.B) {
		var d datapath.Decider
		key, variants := s.Others[4711].Key, [5]lb.Snapshot{}
		for i := range variants {
			variants[i] = s
			list := slices.Clone(s.Endpoints.Of(key))
			list[i].Ready = false
			variants[i].Endpoints.Set(key, list)
		}
		d.Desired(s)
		for i := 0; b.Loop(); i++ {
			d.Desired(variants[i%5])
		}
	})
	b.Run("a node is down", func(b *testing.B) {
		var d datapath.Decider
		i := 0
		for b.Loop() {
			i++
			now := s
			now.Down = map[lb.NodeName]bool{lb.NodeName(fmt.Sprint("n", 2+i%2)): true}
			d.Desired(now)
		}
	})
}
