package datapath

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// Desired returns what this node's kernel shall hold in mode external: every address in a Service's status whose ipMode is
// Proxy (S45), each port of its Service on it. The state is empty where somebody else forwards. Should two Services claim the
// same address, port and protocol, the first by key has it. Endpoints on nodes that are down get weight 0, at most half of those
// behind a port.
func Desired(s lb.Snapshot) State {
	var out State
	if !s.Forwards {
		return out
	}
	taken := map[Listener]bool{}
	for _, svc := range s.Services {
		for _, in := range svc.Ingress {
			if in.Mode != lb.ModeProxy || !in.Addr.IsValid() {
				continue
			}
			vip := in.Addr.Unmap()
			out.VIPs = append(out.VIPs, vip)
			for _, port := range svc.Ports {
				l := Listener{Addr: netip.AddrPortFrom(vip, port.Port), Protocol: port.Protocol}
				if taken[l] {
					continue
				}
				taken[l] = true
				out.Servers = append(out.Servers, server(l, svc, port, s))
			}
		}
	}
	slices.SortFunc(out.VIPs, netip.Addr.Compare)
	out.VIPs = slices.Compact(out.VIPs)
	slices.SortFunc(out.Servers, func(a, b VirtualServer) int { return a.Listener.Compare(b.Listener) })
	return out
}

func server(l Listener, svc lb.Service, port lb.Port, s lb.Snapshot) VirtualServer {
	family := lb.FamilyOf(l.Addr.Addr())
	var eps []lb.Endpoint
	for _, e := range lb.OfPort(s.Endpoints[svc.Key], port) {
		if lb.FamilyOf(e.Addr.Addr()) == family {
			eps = append(eps, e)
		}
	}
	policy := cmp.Or(svc.ExternalTrafficPolicy, lb.Cluster)
	v := VirtualServer{
		Listener:     l,
		Service:      svc.Key,
		Port:         port.Name,
		Scheduler:    RoundRobin,
		Affinity:     svc.SessionAffinity,
		Verdict:      Forward,
		SourceRanges: ranges(svc.SourceRanges, family),
	}
	if policy == lb.Cluster {
		v.Masquerade = Everybody // S22; with Local the endpoint sees the client (S25)
	}
	usable := lb.Usable(eps, policy, s.Self)
	v.Destinations = destinations(eps, spare(usable, s.Down), policy, s.Self)
	switch {
	case len(usable) > 0:
	case policy == lb.Local && len(lb.Usable(eps, lb.Cluster, s.Self)) > 0:
		v.Verdict = Drop // S57: another node serves it, a refusal would be a lie
	default:
		v.Verdict = Reject // S52
	}
	return v
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

// destinations gives the usable endpoints weight 1. Endpoints that exist but must get no new connection are kept with weight 0,
// so that the connections they have may end in peace (S65).
func destinations(eps, usable []lb.Endpoint, policy lb.TrafficPolicy, self lb.NodeName) []Destination {
	weight := map[netip.AddrPort]int{}
	for _, e := range eps {
		if policy != lb.Local || e.Node == self {
			weight[unmap(e.Addr)] = 0
		}
	}
	for _, e := range usable {
		weight[unmap(e.Addr)] = 1 // S7: the same address in several slices is one destination, and its better record wins
	}
	out := make([]Destination, 0, len(weight))
	for addr, w := range weight {
		out = append(out, Destination{Addr: addr, Weight: w, Method: NAT})
	}
	slices.SortFunc(out, func(a, b Destination) int { return a.Addr.Compare(b.Addr) })
	return out
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// ranges reduces loadBalancerSourceRanges to those of one family, sorted and without any that lies inside another. No range of the family, or one
// that covers it all, means everybody (S48).
func ranges(in []netip.Prefix, family lb.Family) []netip.Prefix {
	var mine []netip.Prefix
	for _, p := range in {
		if p.IsValid() && lb.FamilyOf(p.Addr()) == family {
			mine = append(mine, p.Masked())
		}
	}
	slices.SortFunc(mine, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range mine {
		if p.Bits() == 0 {
			return nil
		}
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue // sorted, so the wider range came first
		}
		out = append(out, p)
	}
	return out
}
