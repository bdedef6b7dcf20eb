package bgp

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/lb"
)

// BenchmarkDesired plans and composes 10,000 addresses for two peers.
func BenchmarkDesired(b *testing.B) {
	for _, policy := range []lb.TrafficPolicy{lb.Cluster, lb.Local} {
		s := snapshot(lb.BGPAdvertisement{Name: "all"}, lb.BGPAdvertisement{Name: "wide", Length: 24})
		s.Services, s.Pools = nil, []lb.Pool{{Name: "p", Ranges: []lb.Range{{From: address("10.0.0.0"), To: address("10.255.255.255")}}}}
		for i := range 10000 {
			key, addr := lb.ServiceKey{Namespace: "d", Name: fmt.Sprintf("s%05d", i)}, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
			s.Services = append(s.Services, lb.Service{Key: key, Ports: []lb.Port{{Name: "p", Protocol: lb.TCP, Port: 80}}, ExternalTrafficPolicy: policy,
				Ingress: []lb.Ingress{{Addr: addr, Mode: lb.ModeProxy}}})
			s.Programmed[addr] = true
			s.Endpoints.Set(key, []lb.Endpoint{{PortName: "p", Protocol: lb.TCP, Addr: netip.AddrPortFrom(addr, 80), Node: "n1", Ready: true}})
		}
		b.Run(string(policy), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Desired(s, announce.Plan(s))
			}
		})
	}
}
