package tunnel

import (
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// Peers returns the other nodes with a speaker that is alive and ready, so that it could answer, in each family in which both nodes have an
// address, sorted by node and family; none, and false, while no Service asks for direct server return. Those with endpoints of such a Service are asked.
func Peers(s lb.Snapshot) (out []Peer, wanted bool) {
	with := map[key]bool{}
	wanted = datapath.WantDirect(s, func(e lb.Endpoint) { with[key{e.Node, lb.FamilyOf(e.Addr.Addr())}] = true })
	if !wanted {
		return nil, false
	}
	for _, m := range s.Members {
		if m.Node == s.Self || !m.Ready || s.Down[m.Node] {
			continue
		}
		for _, family := range []lb.Family{lb.IPv4, lb.IPv6} {
			self, host := addrOf(s.Nodes[s.Self], family), addrOf(s.Nodes[m.Node], family)
			if self.IsValid() && host.IsValid() {
				x := Peer{Node: m.Node, Self: self, Host: host}
				x.Asked = with[x.key()]
				out = append(out, x)
			}
		}
	}
	return out, true
}

// PodsOf returns some endpoints of a family that a datapath takes tunnelled packets for, of those that will stay if there are any.
func PodsOf(reached datapath.State, family lb.Family) (out Pods) {
	n := 0
	for _, staying := range []bool{true, false} {
		for _, v := range reached.Servers {
			if !v.Tunnelled || lb.FamilyOf(v.Addr.Addr()) != family {
				continue
			}
			for _, d := range v.Destinations {
				if addr := d.Addr.Addr(); n < len(out) && d.Weight > 0 == staying && !slices.Contains(out[:n], addr) {
					out[n] = addr
					n++
				}
			}
		}
		if n > 0 {
			break
		}
	}
	return out
}

// addrOf returns the node's first address of a family, the zero Addr if it has none.
func addrOf(n lb.Node, f lb.Family) netip.Addr {
	for _, a := range n.Addrs {
		if lb.FamilyOf(a) == f {
			return a.Unmap()
		}
	}
	return netip.Addr{}
}
