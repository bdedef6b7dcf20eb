package lb

import (
	"net/netip"
	"slices"
)

// NodeName is metadata.name of a Node; it is also the member's name in gossip.
type NodeName string

// MAC is an Ethernet address. Being an array it is comparable.
type MAC [6]byte

// Node is what the API server says about a node.
type Node struct {
	Name               NodeName
	Labels             map[string]string
	Addrs              []netip.Addr   // status.addresses of type InternalIP
	Excluded           bool           // label node.kubernetes.io/exclude-from-external-load-balancers, parsed as H11 says
	NetworkUnavailable bool           // condition NetworkUnavailable is True
	Deleting           bool           // deletionTimestamp set, or tainted ToBeDeletedByClusterAutoscaler
	Cordoned           bool           // spec.unschedulable; not a reason to leave by itself
	PodCIDRs           []netip.Prefix // spec.podCIDRs: where the addresses of its pods are from, if Kubernetes assigns them
}

// Zone returns the node's label topology.kubernetes.io/zone, "" if it has none.
func (n Node) Zone() string { return n.Labels["topology.kubernetes.io/zone"] }

// Link is a network interface of a speaker's own node that can carry announcements.
type Link struct {
	Name     string
	Index    int
	MAC      MAC
	Up       bool           // administratively up and with carrier
	Prefixes []netip.Prefix // the subnets on the link, masked
}

// Holds reports whether one of the link's subnets contains addr.
func (l Link) Holds(addr netip.Addr) bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Subnet returns the smallest of the link's subnets that contains addr; the zero Prefix if none does. Two links of a node with
// the same one are on one segment.
func (l Link) Subnet(addr netip.Addr) (out netip.Prefix) {
	for _, p := range l.Prefixes {
		if p.Contains(addr) && (!out.IsValid() || p.Bits() > out.Bits()) {
			out = p
		}
	}
	return out
}

// Member is a speaker as gossip knows it: alive if it is in the list at all.
type Member struct {
	Node     NodeName
	Draining bool // it asked to be left out of elections
	Ready    bool // its datapath works
	News     bool // and can be told of other nodes' new connections, by copies of their first packets, and tell of its own
	Links    []Link
	Claims   []Claim // the addresses it says it announces, sorted by address

	// Failing holds the addresses that its datapath tried to program and could not, sorted; others must serve them.
	Failing []netip.Addr

	// Suspects holds the nodes whose heartbeats this member, one of their watchers, no longer hears, sorted.
	Suspects []NodeName

	// Alive holds those of them whose kernels said that nobody listens, sorted: their speakers have died, and the nodes forward on.
	Alive []NodeName
}

// Claim returns the epoch of the member's claim to addr, 0 if it has none.
func (m Member) Claim(addr netip.Addr) uint64 {
	i, ok := slices.BinarySearchFunc(m.Claims, addr, func(c Claim, a netip.Addr) int { return c.Addr.Compare(a) })
	if !ok {
		return 0
	}
	return m.Claims[i].Epoch
}

// Relay is another node that takes packets of connections from this one.
type Relay struct {
	Node NodeName
	News bool // this node can tell it of new connections
}

// Claim says that a node announces an address. Of two claims to one address that with the higher epoch holds.
type Claim struct {
	Addr  netip.Addr
	Epoch uint64 // grows with every change of ownership that the claimant has seen

	// To is the node that shall take the address over while the claimant still announces it; "" = nobody.
	To NodeName
}
