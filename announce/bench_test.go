package announce

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

// cluster returns a cluster of as many members and Services with an address each, which all have an owner if they are claimed.
func cluster(members, addresses int, policy lb.TrafficPolicy, claimed bool) lb.Snapshot {
	s := lb.Snapshot{Self: "n0", Nodes: map[lb.NodeName]lb.Node{}, Programmed: map[netip.Addr]bool{},
		Pools:    []lb.Pool{{Name: "main", Ranges: []lb.Range{{From: netip.MustParseAddr("10.0.0.0"), To: netip.MustParseAddr("10.255.255.255")}}}},
		L2:       []lb.L2Advertisement{{Name: "all", Preferred: []lb.Preference{{Weight: 5, Selector: name("n1", "n2")[0]}}}},
		Links:    []lb.Link{link("eth0", "10.0.0.0/8")},
		Forwards: true}
	for i := range members {
		n := lb.NodeName(fmt.Sprintf("n%d", i))
		s.Nodes[n] = lb.Node{Name: n, Labels: map[string]string{"name": string(n)}}
		s.Members = append(s.Members, lb.Member{Node: n, Ready: true, Links: s.Links})
	}
	for i := range addresses {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		key := lb.ServiceKey{Namespace: "default", Name: fmt.Sprintf("s%05d", i)}
		s.Services = append(s.Services, service(key, policy, addr))
		var list []lb.Endpoint
		for j := range 3 {
			list = append(list, endpoint(lb.NodeName(fmt.Sprintf("n%d", (i+j)%members)), true, false))
		}
		s.Endpoints.Set(key, list)
		s.Programmed[addr] = true
		if m := &s.Members[i%members]; claimed {
			m.Claims = append(m.Claims, lb.Claim{Addr: addr, Epoch: 1})
		}
	}
	return s
}

func BenchmarkPlan(b *testing.B) {
	for _, bb := range []struct {
		members, addresses int
		policy             lb.TrafficPolicy
		claimed            bool
	}{
		{10, 1000, lb.Cluster, true}, {10, 10000, lb.Cluster, true}, {10, 10000, lb.Cluster, false}, {10, 10000, lb.Local, true}, {100, 5000, lb.Cluster, true},
	} {
		s := cluster(bb.members, bb.addresses, bb.policy, bb.claimed)
		b.Run(fmt.Sprintf("%d members, %d addresses, %s, claimed %t", bb.members, bb.addresses, bb.policy, bb.claimed), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Plan(s)
			}
		})
	}
}
