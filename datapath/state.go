package datapath

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// Listener is what a client connects to: an address, a port, and TCP, UDP or SCTP. The unspecified address, 0.0.0.0 or ::, stands
// for every address in [State.NodeAddrs] of its family: a node port. It is comparable.
type Listener struct {
	Addr      netip.AddrPort
	Protocol  lb.Protocol
	Inside    bool // only for connections of this node and its pods, which do not look at the listener without Inside then
	Tunnelled bool // only for what other nodes have sent through the tunnel; never with Inside
}

// String returns "192.0.2.200:80/TCP", with " inside" or " tunnelled" where it applies.
func (l Listener) String() string {
	return l.Addr.String() + "/" + string(l.Protocol) + []string{"", " inside", " tunnelled"}[l.rank()]
}

// Compare orders listeners by address, port, protocol; one for everybody comes before that for the inside, the one for the tunnel last.
func (l Listener) Compare(o Listener) int {
	return cmp.Or(l.Addr.Compare(o.Addr), strings.Compare(string(l.Protocol), string(o.Protocol)), cmp.Compare(l.rank(), o.rank()))
}

func (l Listener) rank() int {
	switch {
	case l.Tunnelled:
		return 2
	case l.Inside:
		return 1
	default:
		return 0
	}
}

// ForEverybody returns the listener of the same address, port and protocol that is neither for the inside nor for the tunnel alone.
func (l Listener) ForEverybody() Listener {
	l.Inside, l.Tunnelled = false, false
	return l
}

// NodePort reports whether l listens on every address in [State.NodeAddrs] of its family.
func (l Listener) NodePort() bool { return l.Addr.Addr().IsUnspecified() }

// Verdict is what happens to a new connection. Established ones go on under every verdict.
type Verdict string

// Reject answers at once (TCP reset, ICMP port unreachable); Drop stays silent, because another node may serve.
const (
	Forward Verdict = "forward"
	Reject  Verdict = "reject"
	Drop    Verdict = "drop"
)

// Method is how a packet travels to its destination.
type Method string

// NAT rewrites the packet's destination; the reply passes through this node again. Tunnel wraps the packet as it is into one for the
// destination's address (RFC 2003, RFC 2473); the node that has it answers the client.
const (
	NAT    Method = "nat"
	Tunnel Method = "tunnel"
)

// RoundRobin is the scheduler of a Service that asks for none. Engines that have no counterpart spread at random. Maglev chooses by a hash of
// the client's address and port, on all nodes alike where they have the same destinations; MaglevClient by its address alone.
const (
	RoundRobin   = "rr"
	Maglev       = "mh"
	MaglevClient = "mh-client"
)

// Clients is a set of kinds of clients. Every connection is of one kind, told by the source of its first packet as it arrives.
type Clients uint8

// The kinds of clients. Who is neither a pod of this node, as [State.Pods] tells, nor the node itself, is outside: strangers, other
// nodes and their pods.
const (
	Outside Clients = 1 << iota
	Pods
	Host // the source is an address of the node, or the packet comes from the node's own output

	Nobody    Clients = 0
	Everybody         = Outside | Pods | Host
)

// String returns "outside,host", "everybody" or "nobody".
func (c Clients) String() string {
	switch c {
	case Nobody:
		return "nobody"
	case Everybody:
		return "everybody"
	}
	var words []string
	for i, word := range []string{"outside", "pods", "host"} {
		if c&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, ",")
}

// Detector tells the pods of this node by the packets that they send: the source is in one of the ranges, or the packet comes in
// through one of the interfaces. One that is empty recognises nobody.
type Detector struct {
	Sources    []netip.Prefix // sorted, none inside another
	Interfaces []string       // sorted names; "cali*" means every name that begins with cali
}

// Empty reports whether d recognises nobody.
func (d Detector) Empty() bool { return len(d.Sources)+len(d.Interfaces) == 0 }

// Equal reports whether both recognise the same in the same way.
func (d Detector) Equal(o Detector) bool {
	return slices.Equal(d.Sources, o.Sources) && slices.Equal(d.Interfaces, o.Interfaces)
}

// Destination is an endpoint behind a listener.
type Destination struct {
	Addr   netip.AddrPort
	Weight int // share of new connections; 0 = none, established ones go on
	Method Method

	// The rest describes what was read from a kernel and is zero in a wanted state.

	Conns int       // connections the kernel still tracks
	Until time.Time // a destination that is no longer wanted is deleted then at the latest; zero = not decided yet
	Added int       // one that the kernel got later than another of its server has a greater one
}

// at compares d's address with a.
func (d Destination) at(a netip.AddrPort) int { return d.Addr.Compare(a) }

func (d Destination) same(o Destination) bool {
	return d.Addr == o.Addr && d.Weight == o.Weight && d.Method == o.Method
}

// Claim is what a Service has an address as. Of several Services with one listener the one with the least has it: a ClusterIP, or an address
// that a controller has assigned, cannot be taken away by somebody who writes it into externalIPs.
type Claim uint8

// The claims.
const (
	ClusterIP Claim = iota
	NodePort
	LoadBalancerIP
	ExternalIP
)

// String returns the words for it.
func (c Claim) String() string {
	return []string{"ClusterIP", "node port", "load-balancer address", "external IP"}[c]
}

// VirtualServer is one listener with everything that happens to its connections.
type VirtualServer struct {
	Listener
	Service      lb.ServiceKey
	Port         string        // name of the Service's port; servers with the same Service, Port and Protocol share the memory for Affinity
	Scheduler    string        // rr, wrr, lc, wlc, sh, mh, sed or nq; sh and mh always with IPVS's flags for fallback and port; or mh-client
	Affinity     time.Duration // 0 = none; else a client returns to its endpoint if it comes again within this time
	Masquerade   Clients       // to whose connections endpoints see this node's address instead of the client's
	Verdict      Verdict
	Claim        Claim          // what its Service has the address as, by which one of several Services has the listener; no engine looks at it
	Direct       bool           // any node may receive the rest of a connection: see the package's "Direct server return"
	SourceRanges []netip.Prefix // who may connect, of whatever kind, sorted, none inside another; empty = everybody
	Destinations []Destination  // sorted by address
}

// sameService reports whether everything but the destinations is equal.
func (v *VirtualServer) sameService(o *VirtualServer) bool {
	return v.Listener == o.Listener && v.Service == o.Service && v.Port == o.Port && v.Scheduler == o.Scheduler && v.Affinity == o.Affinity &&
		v.Masquerade == o.Masquerade && v.Verdict == o.Verdict && v.Direct == o.Direct && slices.Equal(v.SourceRanges, o.SourceRanges)
}

// at compares v's listener with l.
func (v *VirtualServer) at(l Listener) int { return v.Listener.Compare(l) }

// Equal reports whether both want the same; connection counts and deadlines do not matter.
func (v *VirtualServer) Equal(o *VirtualServer) bool {
	return v == o || v.sameService(o) && (alias(v.Destinations, o.Destinations) || slices.EqualFunc(v.Destinations, o.Destinations, Destination.same))
}

// Holds reports whether v, as a kernel has it, is all that is to be given of want: an endpoint without weight that a kernel does not have it does
// not get.
func (v *VirtualServer) Holds(want *VirtualServer) bool {
	if !v.sameService(want) {
		return false
	}
	have := v.Destinations
	for _, w := range want.Destinations {
		switch {
		case len(have) > 0 && have[0].Addr == w.Addr:
			if !have[0].same(w) {
				return false
			}
			have = have[1:]
		case w.Weight > 0:
			return false
		}
	}
	return len(have) == 0
}

// InOrder reports whether the kernel got v's destinations in the order of their addresses, on which the choices of a Direct server depend.
func (v *VirtualServer) InOrder() bool {
	return !v.Direct || slices.IsSortedFunc(v.Destinations, func(a, b Destination) int { return cmp.Compare(a.Added, b.Added) })
}

// alias reports whether a and b are one and the same memory. Whoever builds states again and again shares what has not changed.
func alias[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// String returns the server and its destinations, one per line.
func (v VirtualServer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server %s %s %s %s", v.Listener, v.Service, v.Scheduler, v.Verdict)
	switch v.Masquerade {
	case Nobody:
	case Everybody:
		b.WriteString(" masquerade")
	default:
		fmt.Fprintf(&b, " masquerade=%s", v.Masquerade)
	}
	if v.Affinity > 0 {
		fmt.Fprintf(&b, " affinity=%s", v.Affinity)
	}
	if v.Direct {
		b.WriteString(" direct")
	}
	for _, p := range v.SourceRanges {
		fmt.Fprintf(&b, " from=%s", p)
	}
	b.WriteByte('\n')
	for _, d := range v.Destinations {
		fmt.Fprintf(&b, "  %s weight=%d %s", d.Addr, d.Weight, d.Method)
		if d.Conns > 0 {
			fmt.Fprintf(&b, " conns=%d", d.Conns)
		}
		if !d.Until.IsZero() {
			fmt.Fprintf(&b, " until=%s", d.Until.UTC().Format(time.TimeOnly))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// State is what a kernel shall hold, or holds. Whoever builds one sorts its slices; readers must not write to them. A server is never written
// to once it is in a state: states share those that are the same.
type State struct {
	// VIPs are the addresses that this node takes all packets for, whatever their port, sorted. A server may be at an address that is
	// none of them: an external IP that is some node's own, of which only the server's port is ours.
	VIPs    []netip.Addr
	Servers []*VirtualServer // sorted by listener, no two with the same
	// NodeAddrs are the node's own addresses at which servers with [Listener.NodePort] listen, sorted.
	NodeAddrs []netip.Addr
	Pods      Detector // tells the pods of this node
	// Peers are the addresses of the other nodes, from which alone tunnelled packets are taken, sorted; none without such a server.
	Peers []netip.Addr
	MTU   MTU // what the network takes to the destinations of such servers, as an engine found; zero in a wanted state

	Onward Onward // what becomes of packets of connections that this node does not know

	// Partial lists, in a state that an engine reached, the VIPs that lack something that was wanted. Sorted.
	Partial []netip.Addr
	// Refused lists, in a wanted state, what of the facts is not in it, at which engines do not look; in a state that an engine reached,
	// what the kernel does not take. Sorted by Service.
	Refused []Refused
}

// Equal reports whether both states hold the same VIPs, servers, node addresses, peers, detector and way onward; Refused does not matter.
func (s State) Equal(o State) bool {
	return s.Onward == o.Onward && slices.Equal(s.VIPs, o.VIPs) && slices.Equal(s.Peers, o.Peers) && slices.Equal(s.Partial, o.Partial) && slices.Equal(s.NodeAddrs, o.NodeAddrs) && s.Pods.Equal(o.Pods) &&
		(alias(s.Servers, o.Servers) || slices.EqualFunc(s.Servers, o.Servers, (*VirtualServer).Equal))
}

// Keeps reports whether s takes nothing away from before: every VIP is in it, and every listener that forwards still does, to whichever
// endpoints. One that refused may do anything.
func (s State) Keeps(before State) bool {
	vips := s.VIPs
	if alias(vips, before.VIPs) {
		before.VIPs = nil
	}
	for _, a := range before.VIPs {
		for len(vips) > 0 && vips[0].Less(a) {
			vips = vips[1:]
		}
		if len(vips) == 0 || vips[0] != a {
			return false
		}
	}
	if alias(s.Servers, before.Servers) {
		return true
	}
	next := 0
	for _, old := range before.Servers {
		if next < len(s.Servers) && s.Servers[next] == old {
			next++
			continue
		}
		if old.Verdict != Forward {
			continue
		}
		for next < len(s.Servers) && s.Servers[next].Listener.Compare(old.Listener) < 0 {
			next++
		}
		if next == len(s.Servers) || s.Servers[next].Listener != old.Listener || s.Servers[next].Verdict != Forward {
			return false
		}
	}
	return true
}

// String prints the state for people and golden tests: a line per VIP, server and destination.
func (s State) String() string {
	var b strings.Builder
	for _, a := range s.VIPs {
		fmt.Fprintf(&b, "vip %s", a)
		if slices.Contains(s.Partial, a) {
			b.WriteString(" partial")
		}
		b.WriteByte('\n')
	}
	for _, a := range s.NodeAddrs {
		fmt.Fprintf(&b, "node %s\n", a)
	}
	for _, a := range s.Peers {
		fmt.Fprintf(&b, "peer %s\n", a)
	}
	for _, p := range s.Pods.Sources {
		fmt.Fprintf(&b, "pods from %s\n", p)
	}
	for _, name := range s.Pods.Interfaces {
		fmt.Fprintf(&b, "pods through %s\n", name)
	}
	b.WriteString(s.Onward.String())
	for _, v := range s.Servers {
		b.WriteString(v.String())
	}
	for _, r := range s.Refused {
		fmt.Fprintf(&b, "refused %s\n", r)
	}
	return b.String()
}

// Has reports whether vip does everything that was wanted of it, on all its ports, in a reached state. One whose Service has no
// endpoint does: its connections are refused as they should be.
func (s State) Has(vip netip.Addr) bool {
	_, up := slices.BinarySearchFunc(s.VIPs, vip, netip.Addr.Compare)
	_, lacks := slices.BinarySearchFunc(s.Partial, vip, netip.Addr.Compare)
	return up && !lacks
}

// Programmed returns the addresses that s has.
func (s State) Programmed() map[netip.Addr]bool {
	out := make(map[netip.Addr]bool, len(s.VIPs))
	for _, a := range s.VIPs {
		if s.Has(a) {
			out[a] = true
		}
	}
	return out
}

// Plain returns s without what an engine must be able to tell clients apart for: listeners for the inside and the tunnel, and node ports.
func (s State) Plain() State {
	s.Servers = slices.DeleteFunc(slices.Clone(s.Servers), func(v *VirtualServer) bool { return v.Inside || v.Tunnelled || v.NodePort() })
	return s
}

// Server returns the server of a listener.
func (s State) Server(l Listener) (VirtualServer, bool) {
	i, ok := slices.BinarySearchFunc(s.Servers, l, (*VirtualServer).at)
	if !ok {
		return VirtualServer{}, false
	}
	return *s.Servers[i], true
}
