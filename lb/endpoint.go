package lb

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Endpoint is one address and port behind one port of a Service: the product of an EndpointSlice's endpoints and ports.
// It is comparable.
type Endpoint struct {
	PortName    string
	Protocol    Protocol
	Addr        netip.AddrPort
	Node        NodeName // "" where the slice names no node
	Ready       bool     // conditions.ready, nil counts as true
	Serving     bool     // conditions.serving, nil counts as ready
	Terminating bool     // conditions.terminating, nil counts as false
	ForZones    string   // hints.forZones: names of zones, separated by commas; "" = no hint
	ForNodes    string   // hints.forNodes, the same
}

// Compare orders endpoints by port name, protocol, address, then node.
func (e Endpoint) Compare(o Endpoint) int {
	return cmp.Or(strings.Compare(e.PortName, o.PortName), strings.Compare(string(e.Protocol), string(o.Protocol)),
		e.Addr.Compare(o.Addr), strings.Compare(string(e.Node), string(o.Node)))
}

// Usable returns the endpoints that node may send a new connection to under policy. With [Cluster] these are the ready
// ones, or, when no endpoint is ready anywhere, those that still serve while terminating (KEP-1669). With [Local] the same
// rule looks only at endpoints on node, so one node may use its terminating endpoints while another has ready ones. An
// endpoint that is terminating and no longer serving is never used. Endpoints of several ports are judged together only
// if the caller passes them together: call it per port.
//
// Statements S11 to S13 and S16 of the Service semantics; publishNotReadyAddresses arrives as Ready.
func Usable(endpoints []Endpoint, policy TrafficPolicy, node NodeName) []Endpoint {
	var ready, fallback []Endpoint
	for _, e := range endpoints {
		switch {
		case policy == Local && e.Node != node:
		case e.Ready:
			ready = append(ready, e)
		case e.Serving && e.Terminating:
			fallback = append(fallback, e)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return fallback
}

// Near returns those of the usable endpoints that their hints keep for this node: all have a hint for nodes and at least one names
// this one, then these; else the same with zones; else all. Hints count only among ready endpoints, hence not where [Usable]
// had to fall back (S17, KEP-2433, KEP-3015). The zone of a node is [Node.Zone], "" if it has none.
func Near(usable []Endpoint, node NodeName, zone string) []Endpoint {
	if len(usable) == 0 || !usable[0].Ready {
		return usable
	}
	if near := hinted(usable, string(node), func(e Endpoint) string { return e.ForNodes }); len(near) > 0 {
		return near
	}
	if near := hinted(usable, zone, func(e Endpoint) string { return e.ForZones }); len(near) > 0 {
		return near
	}
	return usable
}

// hinted returns the endpoints whose hint names want; none if one of them has no hint.
func hinted(endpoints []Endpoint, want string, hint func(Endpoint) string) []Endpoint {
	if want == "" {
		return nil
	}
	var out []Endpoint
	for _, e := range endpoints {
		names := hint(e)
		if names == "" {
			return nil
		}
		for name := range strings.SplitSeq(names, ",") {
			if name == want {
				out = append(out, e)
				break
			}
		}
	}
	return out
}

// HasReadyOn reports whether any endpoint on node is ready: what decides whether a node may announce a Service with
// externalTrafficPolicy Local (H12).
func HasReadyOn(endpoints []Endpoint, node NodeName) bool {
	return slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.Ready && e.Node == node })
}

// OfPort returns the endpoints behind p, a part of the list, which is sorted by [Endpoint.Compare]. An endpoint belongs to p if port name and
// protocol are equal (S4).
func OfPort(endpoints []Endpoint, p Port) []Endpoint {
	order := func(e Endpoint, p Port) int {
		return cmp.Or(strings.Compare(e.PortName, p.Name), strings.Compare(string(e.Protocol), string(p.Protocol)))
	}
	from, some := slices.BinarySearchFunc(endpoints, p, order)
	if !some {
		return nil
	}
	n, _ := slices.BinarySearchFunc(endpoints[from:], p, func(e Endpoint, p Port) int { return cmp.Or(order(e, p), -1) })
	return endpoints[from : from+n : from+n]
}
