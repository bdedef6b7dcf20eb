package datapath

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// Onward says what becomes of a packet in the middle of a TCP connection to a VIP that this node does not know: see the package's
// "Connections that move".
type Onward struct {
	Known bool // otherwise the rest is zero, and a kernel keeps what it has: a process that starts does not know yet whom there is

	Silent     bool // the last node drops what it would refuse
	News       bool // the others are told of new connections
	IPv4, IPv6 Way
}

// Way is the part that this node has in the walk of a packet from node to node.
type Way struct {
	First Hop // for a packet that no node has handed on; zero = there is nobody
	Next  Hop // for one that a node has; zero = this node is the last, and refuses it
}

// Hop is another node, on a segment of this one. It is comparable.
type Hop struct {
	Addr netip.Addr
	Link int // the index of this node's interface to it
}

// mostOnward is how many nodes a walk may take: those first by name. Every hop costs a packet some 10 µs, a wire, and one of its TTL, 64 at first.
const mostOnward = 16

// String returns the ways, one per line.
func (o Onward) String() string {
	var b strings.Builder
	for _, w := range []Way{o.IPv4, o.IPv6} {
		if w.First == (Hop{}) {
			continue
		}
		next := "refused"
		switch {
		case w.Next != (Hop{}):
			next = w.Next.Addr.String()
		case o.Silent:
			next = "dropped"
		}
		told := ""
		if o.News {
			told = ", told of new connections"
		}
		fmt.Fprintf(&b, "onward first %s next %s%s\n", w.First.Addr, next, told)
	}
	return b.String()
}

// onward returns what s.Self does with packets that it does not know. All nodes take the same order, that of their names, so that none
// gets the same packet from another twice.
func onward(s lb.Snapshot) (out Onward) {
	switch {
	case !s.RelaysKnown:
		return Onward{}
	case !s.Forwarding.HandOn:
		return Onward{Known: true}
	}
	out = Onward{Known: true, Silent: s.RelaysInDoubt, IPv4: way(s, lb.IPv4), IPv6: way(s, lb.IPv6)}
	if out.IPv4 == (Way{}) && out.IPv6 == (Way{}) {
		return Onward{Known: true}
	}
	out.News = true
	for _, r := range s.Relays {
		out.News = out.News && r.News
	}
	return out
}

// way goes through the nodes in their order, this one among them.
func way(s lb.Snapshot, f lb.Family) (w Way) {
	type stop struct {
		node lb.NodeName
		hop  Hop
	}
	walk := []stop{{node: s.Self}}
	for _, r := range s.Relays {
		if hop, ok := hopTo(s, r.Node, f); ok {
			walk = append(walk, stop{r.Node, hop})
		}
	}
	slices.SortFunc(walk, func(a, b stop) int { return cmp.Compare(a.node, b.node) })
	walk = walk[:min(len(walk), mostOnward)]
	passed := false
	for _, at := range walk {
		switch {
		case at.node == s.Self:
			passed = true
		case passed && w.Next == (Hop{}):
			w.Next = at.hop
		}
		if at.node != s.Self && w.First == (Hop{}) {
			w.First = at.hop
		}
	}
	return w
}

// hopTo returns the way to a node that is on one of this node's segments.
func hopTo(s lb.Snapshot, node lb.NodeName, f lb.Family) (Hop, bool) {
	for _, a := range s.Nodes[node].Addrs {
		a = a.Unmap()
		if lb.FamilyOf(a) != f {
			continue
		}
		for _, l := range s.Segments {
			if l.Up && l.Holds(a) {
				return Hop{a, l.Index}, true
			}
		}
	}
	return Hop{}, false
}
