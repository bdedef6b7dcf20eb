package datapath

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// lists are the endpoints of one port and family, as several kinds of connections see them.
type lists struct {
	cluster, local list
	direct         list // the same on every node, but for the methods
	cut            int  // how many usable endpoints were left out of cluster as too many
}

type list struct {
	destinations []Destination
	usable       bool // one of them takes new connections
}

// verdict is that of a server with this list: while endpoints elsewhere serve, a refusal would be a lie (S53, S57). Otherwise nobody
// serves (S52).
func (l list) verdict(cluster list) Verdict {
	switch {
	case l.usable:
		return Forward
	case cluster.usable:
		return Drop
	default:
		return Reject
	}
}

// target is what an endpoint and a port of a Service must have in common (S4), and the family.
type target struct {
	port     string
	protocol lb.Protocol
	family   lb.Family
}

// byTarget looks at each endpoint once, however many ports there are.
func byTarget(endpoints []lb.Endpoint) map[target][]lb.Endpoint {
	out := map[target][]lb.Endpoint{}
	for _, e := range endpoints {
		t := target{e.PortName, e.Protocol, lb.FamilyOf(e.Addr.Addr())}
		out[t] = append(out[t], e)
	}
	return out
}

// choose returns the lists for the endpoints of a port of one family. That for a policy that the Service does not have stays empty, as does the
// one for direct server return if nobody asks for it.
func (f frame) choose(svc *lb.Service, eps []lb.Endpoint, direct bool) lists {
	var l lists
	usable := lb.Usable(eps, lb.Cluster, f.self)
	up := spare(usable, f.down) // of all of them, wherever they are: those near here may all be on nodes that are down
	l.cluster, l.cut = f.list(eps, lb.Near(up, f.self, f.zone), f.self)
	if direct { // wherever the node is, and with the same choice where there are too many
		l.direct, _ = f.list(eps, up, "")
		f.tunnel(l.direct.destinations, eps)
	}
	if svc.ExternalTrafficPolicy == lb.Local || f.rules.Full && svc.InternalTrafficPolicy == lb.Local {
		l.local, _ = f.list(eps, lb.Usable(eps, lb.Local, f.self), f.self)
	}
	return l
}

// spare leaves out endpoints on nodes that are down, so that they get no new connection: the API server needs most of a minute to
// notice. It leaves out at most half of the endpoints, the lowest addresses first, on every node the same: should the nodes be
// down in our eyes only, enough of the Service is left.
func spare(usable []lb.Endpoint, down map[lb.NodeName]bool) []lb.Endpoint {
	if len(down) == 0 {
		return usable
	}
	usable = slices.Clone(usable)
	slices.SortFunc(usable, func(a, b lb.Endpoint) int { return cmp.Or(unmap(a.Addr).Compare(unmap(b.Addr)), a.Compare(b)) })
	usable = slices.CompactFunc(usable, func(a, b lb.Endpoint) bool { return unmap(a.Addr) == unmap(b.Addr) })
	most := len(usable) / 2
	return slices.DeleteFunc(usable, func(e lb.Endpoint) bool {
		if !down[e.Node] || most == 0 {
			return false
		}
		most--
		return true
	})
}

// list gives the usable endpoints weight 1. Endpoints that exist but must get no new connection are kept with weight 0,
// so that the connections they have may end in peace (S65). It returns how many usable ones were left out as too many; seed decides which.
func (f frame) list(eps, usable []lb.Endpoint, seed lb.NodeName) (list, int) {
	out := make([]Destination, 0, len(eps)+len(usable))
	for _, e := range usable {
		out = append(out, Destination{Addr: unmap(e.Addr), Weight: 1, Method: NAT})
	}
	for _, e := range eps {
		out = append(out, Destination{Addr: unmap(e.Addr), Method: NAT})
	}
	slices.SortFunc(out, func(a, b Destination) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(b.Weight, a.Weight)) })
	// S7: the same address in several slices is one destination, and its better record wins.
	out = slices.CompactFunc(out, func(a, b Destination) bool { return a.Addr == b.Addr })
	out, cut := few(out, seed)
	return list{slices.Clone(out), len(usable) > 0}, cut // of its own size: there are very many, and they stay
}

// tunnel gives endpoints of other nodes the method for it.
func (f frame) tunnel(list []Destination, eps []lb.Endpoint) {
	here := map[netip.AddrPort]bool{}
	for _, e := range eps {
		here[unmap(e.Addr)] = here[unmap(e.Addr)] || e.Node == f.self
	}
	for i, d := range list {
		if !here[d.Addr] {
			list[i].Method = Tunnel
		}
	}
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
