package datapath

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// frame is what decides about every Service alike.
type frame struct {
	self      lb.NodeName
	zone      string
	rules     lb.Forwarding
	pods      Detector
	down      map[lb.NodeName]bool
	nodes     map[netip.Addr]bool // addresses of nodes, which are never taken as a whole (S47)
	own       []netip.Addr        // those of this node by its Node object
	nodePorts []netip.Addr        // addresses of this node that node ports listen on; whereNodePortsAre looks at every Service for them
	pools     []lb.Pool           // those that say how their Services are forwarded to, without the rest of what they say
	noTunnel  map[lb.NodeName]lb.Refusal
}

func newFrame(s lb.Snapshot) frame {
	self := s.Nodes[s.Self]
	f := frame{self: s.Self, zone: self.Zone(), rules: s.Forwarding, down: s.Down, own: self.Addrs, nodes: map[netip.Addr]bool{}, noTunnel: s.NoTunnel}
	for _, n := range s.Nodes {
		for _, a := range n.Addrs {
			f.nodes[a.Unmap()] = true
		}
	}
	for i := range s.Pools {
		if p := &s.Pools[i]; p.Forwarding.Known() {
			f.pools = append(f.pools, lb.Pool{Name: p.Name, Ranges: p.Ranges, Forwarding: p.Forwarding})
		}
	}
	f.pods = detector(s.Forwarding.Pods, self)
	return f
}

// equal reports whether g leads to the same decisions.
func (f frame) equal(g frame) bool {
	return f.self == g.self && f.zone == g.zone && f.pods.Equal(g.pods) && maps.Equal(f.down, g.down) && maps.Equal(f.nodes, g.nodes) &&
		slices.Equal(f.own, g.own) && slices.Equal(f.nodePorts, g.nodePorts) && f.rules.Full == g.rules.Full && f.rules.MasqueradeAll == g.rules.MasqueradeAll &&
		f.rules.Method == g.rules.Method && maps.Equal(f.noTunnel, g.noTunnel) && slices.EqualFunc(f.pools, g.pools, samePool)
}

// sameNodePorts reports whether node ports are at the same addresses with g, if Services and the node's addresses are the same.
func (f frame) sameNodePorts(g frame) bool {
	return f.rules.Full == g.rules.Full && f.rules.NodePortsPrimary == g.rules.NodePortsPrimary && slices.Equal(f.rules.NodePorts, g.rules.NodePorts) &&
		slices.Equal(f.own, g.own) && maps.Equal(f.nodes, g.nodes)
}

func samePool(a, b lb.Pool) bool {
	return a.Name == b.Name && a.Forwarding == b.Forwarding && slices.Equal(a.Ranges, b.Ranges)
}

// peers returns the addresses of the other nodes, sorted.
func (f frame) peers() []netip.Addr {
	var out []netip.Addr
	for a := range f.nodes {
		if !slices.Contains(f.own, a) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// detector returns how the pods of a node are recognised (S21).
func detector(p lb.PodDetection, self lb.Node) Detector {
	sources := slices.Clone(p.Ranges)
	if p.NodeCIDRs {
		sources = append(sources, self.PodCIDRs...)
	}
	d := Detector{Interfaces: slices.Clone(p.Interfaces)}
	for _, family := range []lb.Family{lb.IPv4, lb.IPv6} {
		d.Sources = append(d.Sources, outermost(sources, family)...)
	}
	slices.Sort(d.Interfaces)
	d.Interfaces = slices.Compact(d.Interfaces)
	return d
}

// whereNodePortsAre returns the addresses of this node that node ports listen on, sorted (S40); none where somebody else serves them.
func (f frame) whereNodePortsAre(s lb.Snapshot) []netip.Addr {
	if !f.rules.Full {
		return nil
	}
	addrs := s.Addrs
	if f.rules.NodePortsPrimary {
		addrs = f.own
	}
	out := map[netip.Addr]bool{}
	for _, a := range addrs {
		a = a.Unmap()
		loop := a.IsLoopback() || a.Is6() && a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified()
		if !loop && f.nodePortsAllowed(a) {
			out[a] = true
		}
	}
	// Somebody may have assigned a Service's address to an interface: kube-proxy's ipvs left some, a cache of DNS has one. An external IP may be
	// one of the node's that its Node object does not name.
	for svc := range all(s) {
		for _, in := range svc.Ingress {
			f.withoutService(out, in.Addr)
		}
		for _, a := range svc.ClusterIPs {
			f.withoutService(out, a)
		}
	}
	return slices.SortedFunc(maps.Keys(out), netip.Addr.Compare)
}

// withoutService deletes a Service's address from those of this node, if it is not one that a Node object has.
func (f frame) withoutService(addrs map[netip.Addr]bool, a netip.Addr) {
	if a = a.Unmap(); addrs[a] && !f.nodes[a] {
		delete(addrs, a)
	}
}

// NodePortsOnly returns the addresses of s.Self to which the operator has restricted node ports, those of a family that is not restricted
// left out: health check node ports keep to the same (H2).
func NodePortsOnly(s lb.Snapshot) []netip.Addr {
	if !s.Forwarding.NodePortsPrimary && len(s.Forwarding.NodePorts) == 0 {
		return nil
	}
	f := newFrame(s)
	return slices.DeleteFunc(f.whereNodePortsAre(s), func(a netip.Addr) bool {
		return !f.rules.NodePortsPrimary && !slices.ContainsFunc(f.rules.NodePorts, func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() })
	})
}

func (f frame) nodePortsAllowed(a netip.Addr) bool {
	restricted := false
	for _, p := range f.rules.NodePorts {
		if p.Contains(a) {
			return true
		}
		restricted = restricted || p.Addr().Is4() == a.Is4()
	}
	return !restricted || f.rules.NodePortsPrimary
}
