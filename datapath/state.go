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

// Listener is what a client connects to: a VIP, a port, and TCP, UDP or SCTP. It is comparable.
type Listener struct {
	Addr     netip.AddrPort
	Protocol lb.Protocol
}

// String returns "192.0.2.200:80/TCP".
func (l Listener) String() string { return l.Addr.String() + "/" + string(l.Protocol) }

// Compare orders listeners by address, port, protocol.
func (l Listener) Compare(o Listener) int {
	return cmp.Or(l.Addr.Compare(o.Addr), strings.Compare(string(l.Protocol), string(o.Protocol)))
}

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

// NAT rewrites the packet's destination; the reply passes through this node again.
const NAT Method = "nat"

// RoundRobin is the scheduler of a Service that asks for none. Engines that have no counterpart spread at random.
const RoundRobin = "rr"

// Destination is an endpoint behind a listener.
type Destination struct {
	Addr   netip.AddrPort
	Weight int // share of new connections; 0 = none, established ones go on
	Method Method

	// The rest describes what was read from a kernel and is zero in a wanted state.

	Conns int       // connections the kernel still tracks
	Until time.Time // a destination that is no longer wanted is deleted then at the latest; zero = not decided yet
}

func (d Destination) same(o Destination) bool {
	return d.Addr == o.Addr && d.Weight == o.Weight && d.Method == o.Method
}

// VirtualServer is one listener with everything that happens to its connections.
type VirtualServer struct {
	Listener
	Service      lb.ServiceKey // whose port it is; for people, engines do not look at it
	Scheduler    string
	Affinity     time.Duration // 0 = none; else a client returns to its endpoint if it comes again within this time
	Masquerade   bool          // endpoints see this node's address instead of the client's
	Verdict      Verdict
	SourceRanges []netip.Prefix // who may connect, sorted, none inside another; empty = everybody
	Destinations []Destination  // sorted by address
}

// sameService reports whether everything but the destinations is equal.
func (v VirtualServer) sameService(o VirtualServer) bool {
	return v.Listener == o.Listener && v.Service == o.Service && v.Scheduler == o.Scheduler && v.Affinity == o.Affinity &&
		v.Masquerade == o.Masquerade && v.Verdict == o.Verdict && slices.Equal(v.SourceRanges, o.SourceRanges)
}

// Equal reports whether both want the same; connection counts and deadlines do not matter.
func (v VirtualServer) Equal(o VirtualServer) bool {
	return v.sameService(o) && slices.EqualFunc(v.Destinations, o.Destinations, Destination.same)
}

// String returns the server and its destinations, one per line.
func (v VirtualServer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "server %s %s %s %s", v.Listener, v.Service, v.Scheduler, v.Verdict)
	if v.Masquerade {
		b.WriteString(" masquerade")
	}
	if v.Affinity > 0 {
		fmt.Fprintf(&b, " affinity=%s", v.Affinity)
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

// State is what a kernel shall hold, or holds. Whoever builds one sorts its slices; readers must not write to them.
type State struct {
	VIPs    []netip.Addr    // addresses that this node takes packets for, sorted
	Servers []VirtualServer // sorted by listener, no two with the same

	// Partial lists, in a state that an engine reached, the VIPs that lack something that was wanted. Sorted.
	Partial []netip.Addr
}

// Equal reports whether both states hold the same VIPs and servers.
func (s State) Equal(o State) bool {
	return slices.Equal(s.VIPs, o.VIPs) && slices.Equal(s.Partial, o.Partial) &&
		slices.EqualFunc(s.Servers, o.Servers, VirtualServer.Equal)
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
	for _, v := range s.Servers {
		b.WriteString(v.String())
	}
	return b.String()
}

// Programmed returns the addresses of a reached state that do everything that was wanted of them, on all their ports. An
// address whose Service has no endpoint counts too: its connections are refused as they should be.
func (s State) Programmed() map[netip.Addr]bool {
	out := make(map[netip.Addr]bool, len(s.VIPs))
	for _, a := range s.VIPs {
		if _, lacks := slices.BinarySearchFunc(s.Partial, a, netip.Addr.Compare); !lacks {
			out[a] = true
		}
	}
	return out
}

// Server returns the server of a listener.
func (s State) Server(l Listener) (VirtualServer, bool) {
	i, ok := slices.BinarySearchFunc(s.Servers, l, func(v VirtualServer, l Listener) int { return v.Listener.Compare(l) })
	if !ok {
		return VirtualServer{}, false
	}
	return s.Servers[i], true
}
