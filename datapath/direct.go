package datapath

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// wish is who asks for a method of forwarding, in words, and which.
type wish struct {
	method lb.Method
	by     string
}

// wished returns what counts for one address of svc: what the Service says, else its pool, else the operator.
func (f frame) wished(svc *lb.Service, vip netip.Addr) wish {
	if svc.Forwarding.Known() {
		return wish{svc.Forwarding, "annotation fairlead.dev/forwarding"}
	}
	for i := range f.pools {
		if p := &f.pools[i]; p.Contains(vip) {
			return wish{p.Forwarding, fmt.Sprintf("spec.forwarding of pool %q", p.Name)}
		}
	}
	return wish{f.rules.Method, "the Helm value datapath.forwarding"}
}

// WantDirect calls yield with each endpoint behind an address that asks for direct server return, whether this node can do it or not, and
// reports whether there is such an address.
func WantDirect(s lb.Snapshot, yield func(lb.Endpoint)) (some bool) {
	f := newFrame(s)
	for svc, ours := range all(s) {
		if !slices.ContainsFunc(svc.Ingress, func(in lb.Ingress) bool { return f.wished(svc, in.Addr.Unmap()).method == lb.DSR }) {
			continue // as most, which need not cost more
		}
		families := map[lb.Family]bool{}
		for _, p := range f.places(svc, ours) {
			if p.kind == LoadBalancerIP && f.wished(svc, p.addr).method == lb.DSR {
				families[lb.FamilyOf(p.addr)], some = true, true
			}
		}
		for _, e := range s.Endpoints.Of(svc.Key) {
			served := func(p lb.Port) bool { return p.Name == e.PortName && p.Protocol == e.Protocol && p.Protocol != lb.SCTP }
			if families[lb.FamilyOf(e.Addr.Addr())] && slices.ContainsFunc(svc.Ports, served) {
				yield(e)
			}
		}
	}
	return some
}

// direct returns at which of the places svc has direct server return, and what is said against it. Where the value is false this node only
// takes what others send through the tunnel.
func (f frame) direct(svc *lb.Service, places []place, endpoints []lb.Endpoint) (at map[netip.Addr]bool, against []Refused) {
	if svc.Forwarding != "" && !svc.Forwarding.Known() {
		against = append(against, refused(svc.Key, lb.UnknownForwarding, "annotation fairlead.dev/forwarding is %q, so that it does not count; write %s or %s, or delete it",
			svc.Forwarding, lb.NAT, lb.DSR))
	}
	var by string
	for _, p := range places {
		if w := f.wished(svc, p.addr); p.kind == LoadBalancerIP && w.method == lb.DSR {
			if at == nil {
				at = map[netip.Addr]bool{}
			}
			at[p.addr], by = true, w.by
		}
	}
	if len(at) == 0 {
		return nil, against
	}
	if why := f.noDirect(endpoints); why != "" {
		return nil, append(against, refused(svc.Key, lb.DSRUnavailable, "%s asks for %s, but %s; until then this node serves it with %s", by, lb.DSR, why, lb.NAT))
	}
	if where := f.cutOff(endpoints); where != "" {
		for a := range at {
			at[a] = false
		}
		against = append(against, refused(svc.Key, lb.DSRUnavailable, "%s asks for %s, but node %s, which has endpoints of it, cannot take part: %s; until then this node serves it with %s",
			by, lb.DSR, where, f.noTunnel[where].Message, lb.NAT))
	}
	if slices.ContainsFunc(svc.Ports, func(p lb.Port) bool { return p.Protocol == lb.SCTP }) {
		against = append(against, refused(svc.Key, lb.DSRNotForSCTP, "%s asks for %s, which ports of SCTP do not have; they are served with %s", by, lb.DSR, lb.NAT))
	}
	if svc.Scheduler != "" && svc.Scheduler != Maglev {
		against = append(against, refused(svc.Key, lb.SchedulerIgnored, "annotation fairlead.dev/scheduler is %q, but with %s, for which %s asks, all nodes use %s; delete the annotation",
			svc.Scheduler, lb.DSR, by, Maglev))
	}
	return at, against
}

// noDirect says why this node cannot give a Service with these endpoints direct server return; "" means that it can. A node that could not
// unwrap what comes through the tunnel must not be sent any.
func (f frame) noDirect(endpoints []lb.Endpoint) string {
	if r, ok := f.noTunnel[f.self]; ok {
		return r.Message
	}
	if f.pods.Empty() {
		return "this node cannot tell its own pods from other clients, whom endpoints answer past it: set the Helm value datapath.pods"
	}
	for _, e := range endpoints {
		switch {
		case e.Node == "":
			return fmt.Sprintf("endpoint %s is on no node of the cluster that could answer the clients itself: give the Service pods as endpoints", e.Addr)
		case f.nodes[e.Addr.Addr().Unmap()]:
			return fmt.Sprintf("endpoint %s has the address of its node, where a network plugin's tunnel may end: give its pod an address of its own, without hostNetwork", e.Addr)
		}
	}
	return ""
}

// cutOff returns the first node with one of the endpoints that cannot take part, "" if all can. Others may reach it, and this one: whoever
// took nothing from the tunnel as soon as it could send nothing through it would have them find it as blocked, and all stay so.
func (f frame) cutOff(endpoints []lb.Endpoint) (first lb.NodeName) {
	for _, e := range endpoints {
		if _, cannot := f.noTunnel[e.Node]; cannot && (first == "" || e.Node < first) {
			first = e.Node
		}
	}
	return first
}

// pass turns the servers that forward by NAT into those of direct server return. Who is outside meets the whole list of endpoints, chosen
// from by a hash, the same on every node; pods and the node itself, who would not take an answer from another node, stay with NAT. What
// other nodes send through the tunnel for an endpoint of this node meets those alone. Without first they stay as they are beside that.
func (f frame) pass(nat []VirtualServer, l lists, first bool) []VirtualServer {
	v, inside := nat[0], nat[len(nat)-1]
	inside.Inside = true
	inside.Masquerade &^= Outside
	v.Direct, v.Masquerade = true, Nobody
	if v.Scheduler = Maglev; v.Affinity > 0 {
		v.Scheduler, v.Affinity = MaglevClient, 0 // a memory would be this node's alone
	}
	v.Destinations = l.direct.destinations
	tunnelled := v
	tunnelled.Tunnelled, tunnelled.Direct, tunnelled.Verdict = true, false, Forward
	tunnelled.Destinations = slices.DeleteFunc(slices.Clone(v.Destinations), func(d Destination) bool { return d.Method != NAT })
	out := nat
	if first {
		out = []VirtualServer{v, inside}
	}
	if len(tunnelled.Destinations) == 0 {
		return out
	}
	return append(out, tunnelled)
}

// Device is what unwraps packets from the tunnel, of one family.
type Device struct {
	Name string
	Addr netip.Addr // the outer destination of packets that it unwraps; nobody else has it, and nothing that comes from a wire may
}

// TunnelDevice returns the device for the family of addr. The addresses are of RFC 7335, for the ends of tunnels, and RFC 6666.
func TunnelDevice(addr netip.Addr) Device {
	if addr.Is4() {
		return Device{"fairlead4", netip.MustParseAddr("192.0.0.6")}
	}
	return Device{"fairlead6", netip.MustParseAddr("100::76")}
}

// MTU is the length in bytes of the longest packets that endpoints of this node can be sent, inside a tunnel or not, of each family; 0 = there
// are no endpoints.
type MTU struct{ IPv4, IPv6 int }
