package datapath

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// result is what one Service contributes to a state.
type result struct {
	servers []*VirtualServer
	refused []Refused
}

// schedulers are those that a Service may ask for.
func schedulers() []string { return []string{"rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq"} }

// place is one address of a Service, or its node ports of one family.
type place struct {
	addr   netip.Addr // unspecified for node ports
	policy lb.TrafficPolicy
	kind   Claim
}

// serve decides about one Service.
func (f frame) serve(svc *lb.Service, ours bool, endpoints []lb.Endpoint) result {
	var out result
	places := f.places(svc, ours)
	if len(places) == 0 {
		return out
	}
	scheduler := cmp.Or(svc.Scheduler, RoundRobin)
	if !slices.Contains(schedulers(), scheduler) {
		out.refused = append(out.refused, refused(svc.Key, lb.UnknownScheduler, "annotation fairlead.dev/scheduler is %q, so that %s is used; write %s, or delete it",
			scheduler, RoundRobin, strings.Join(schedulers(), ", ")))
		scheduler = RoundRobin
	}
	direct, against := f.direct(svc, places, endpoints)
	out.refused = append(out.refused, against...)
	behind := byTarget(endpoints)
	for _, port := range svc.Ports {
		v4 := f.choose(svc, behind[target{port.Name, port.Protocol, lb.IPv4}], len(direct) > 0)
		v6 := f.choose(svc, behind[target{port.Name, port.Protocol, lb.IPv6}], len(direct) > 0)
		if cut := max(v4.cut, v6.cut); cut > 0 {
			out.refused = append(out.refused, tooManyEndpoints(svc.Key, port, cut))
		}
		for _, p := range places {
			number := port.Port
			if p.kind == NodePort {
				number = port.NodePort
			}
			if number == 0 {
				continue // S42: a port without a node port
			}
			v := VirtualServer{
				Listener:  Listener{Addr: netip.AddrPortFrom(p.addr, number), Protocol: port.Protocol},
				Service:   svc.Key,
				Port:      port.Name,
				Scheduler: scheduler,
				Affinity:  svc.SessionAffinity,
				Claim:     p.kind,
			}
			if p.kind == LoadBalancerIP {
				v.SourceRanges = f.ranges(svc.SourceRanges, p.addr) // S48: there only
			}
			l := v4
			if p.addr.Is6() {
				l = v6
			}
			servers := f.split(v, p, l)
			if first, asked := direct[p.addr]; asked && port.Protocol != lb.SCTP {
				servers = f.pass(servers, l, first)
			}
			for i := range servers {
				out.servers = append(out.servers, &servers[i])
			}
		}
	}
	return f.bound(svc, out)
}

// places returns the addresses at which this node serves svc, each once.
func (f frame) places(svc *lb.Service, ours bool) []place {
	var out []place
	add := func(a netip.Addr, policy lb.TrafficPolicy, kind Claim) {
		if a = a.Unmap(); a.IsValid() && !slices.ContainsFunc(out, func(p place) bool { return p.addr == a }) {
			out = append(out, place{a, cmp.Or(policy, lb.Cluster), kind})
		}
	}
	families := map[lb.Family]bool{lb.IPv4: true, lb.IPv6: true}
	if f.rules.Full {
		clear(families) // S2: a family without a ClusterIP is not served at all
		for _, a := range svc.ClusterIPs {
			families[lb.FamilyOf(a)] = true
			add(a, svc.InternalTrafficPolicy, ClusterIP)
		}
	}
	for _, in := range svc.Ingress {
		if in.Addr.IsValid() && families[lb.FamilyOf(in.Addr)] && (ours || f.rules.Full && in.Mode == lb.ModeVIP) {
			add(in.Addr, svc.ExternalTrafficPolicy, LoadBalancerIP)
		}
	}
	if !f.rules.Full {
		return out
	}
	for _, a := range svc.ExternalIPs {
		if a.IsValid() && families[lb.FamilyOf(a)] {
			add(a, svc.ExternalTrafficPolicy, ExternalIP)
		}
	}
	if slices.ContainsFunc(svc.Ports, func(p lb.Port) bool { return p.NodePort != 0 }) {
		if families[lb.IPv4] {
			add(netip.IPv4Unspecified(), svc.ExternalTrafficPolicy, NodePort)
		}
		if families[lb.IPv6] {
			add(netip.IPv6Unspecified(), svc.ExternalTrafficPolicy, NodePort)
		}
	}
	return out
}

// split gives v, a bare server at p, its endpoints, and adds the server for the inside where that sees others (S23, S24, S54).
func (f frame) split(v VirtualServer, p place, l lists) []VirtualServer {
	list := l.cluster
	if p.policy == lb.Local {
		list = l.local
	}
	v.Destinations, v.Verdict = list.destinations, list.verdict(l.cluster)
	switch {
	case p.kind == ClusterIP && f.rules.MasqueradeAll, p.kind != ClusterIP && p.policy == lb.Cluster:
		v.Masquerade = Everybody // S20, S22
	case p.kind == ClusterIP && !f.pods.Empty():
		v.Masquerade = Outside | Host // S20
	case p.kind == ClusterIP:
		v.Masquerade = Host // S31: the node's own connections may have the ClusterIP as their source
	}
	if p.kind == ClusterIP || p.policy != lb.Local {
		return []VirtualServer{v}
	}
	inside := v // S25: what v is for the outside, with all clients visible
	inside.Inside = true
	inside.Destinations, inside.Verdict, inside.Masquerade = l.cluster.destinations, l.cluster.verdict(l.cluster), Host
	return []VirtualServer{v, inside}
}

// ranges reduces loadBalancerSourceRanges to those of vip's family, sorted and without any that lies inside another. No range of the
// family, or one that covers it all, means everybody (S48). If this node may connect, so may the VIP itself: the
// node's own connections have it as their source where it is an address of the node (S50).
func (f frame) ranges(in []netip.Prefix, vip netip.Addr) []netip.Prefix {
	out := outermost(in, lb.FamilyOf(vip))
	if len(out) == 0 || out[0].Bits() == 0 {
		return nil
	}
	mine := slices.ContainsFunc(f.own, func(a netip.Addr) bool {
		return slices.ContainsFunc(out, func(p netip.Prefix) bool { return p.Contains(a) })
	})
	if mine {
		out = outermost(append(out, netip.PrefixFrom(vip, vip.BitLen())), lb.FamilyOf(vip))
	}
	return out
}

// outermost returns the prefixes of one family, masked, sorted, and without those that lie inside another.
func outermost(in []netip.Prefix, family lb.Family) []netip.Prefix {
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
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue // sorted, so the wider range came first
		}
		out = append(out, p)
	}
	return out
}
