package lb

import (
	"net/netip"
	"slices"
	"time"
)

// BGPPeer is a router that nodes have BGP sessions with: a BGPPeer object with its defaults filled in, its BFDProfile looked up
// and its password read.
type BGPPeer struct {
	Name          string
	NodeSelectors []Selector // alternatives; empty = every node

	Addr      netip.Addr // or else Interface: the one router on that link
	Interface string
	Port      uint16
	VRF       string
	Source    netip.Addr // the zero Addr leaves it to the kernel

	MyASN     uint32     // that the peer sees
	PeerASN   uint32     // 0 = any but ours
	Internal  bool       // the peer's AS is ours
	RouterID  netip.Addr // the zero Addr = of the node
	DualStack bool       // the session carries both families; else only that of its addresses

	HoldTime, Keepalive, ConnectRetry time.Duration // whole seconds
	Password                          string        // "" = none
	MultiHop                          bool
	TTLSecurity                       uint8  // hops; 0 = off
	MaxPrefixes                       uint32 // 0 = any number

	GracefulRestart bool
	RestartTime     time.Duration // whole seconds; 0 without GracefulRestart
	DrainWait       time.Duration // how long the peer is asked to prefer other paths before ours are withdrawn in a drain
	BFD             *BFDProfile   // nil = none

	// Unusable says why no node can have the session as it is configured; its Message names the field and the way out.
	Unusable Refusal
}

// BFDProfile is how the liveness of a peer is watched (RFC 5880), a BFDProfile object with its defaults filled in.
type BFDProfile struct {
	Receive, Transmit time.Duration // 10 ms to 60 s
	Multiplier        uint8         // 2 to 255
	Passive           bool
	MinTTL            uint8 // of a peer that is several hops away
}

// BGPAdvertisement says which pools are announced to which BGP peers, from which nodes, and how. An empty list means no
// restriction; several selectors are alternatives.
type BGPAdvertisement struct {
	Name             string
	Pools            []string // with PoolSelectors: the union; both empty = every pool
	PoolSelectors    []Selector
	NodeSelectors    []Selector
	ServiceSelectors []Selector
	Peers            []string // names

	Length, LengthV6 int    // of the prefixes, 1 to 32 and 1 to 128
	LocalPref        uint32 // internal peers only; 0 = as it is by default
	MED              *uint32
	Prepend          uint8 // external peers only
	Weighted         bool  // by the endpoints of the node

	Communities []uint32    // RFC 1997, sorted
	Large       [][3]uint32 // RFC 8092, sorted
}

// Covers reports whether the advertisement is about addresses of pool p that belong to s.
func (a BGPAdvertisement) Covers(p Pool, s Service) bool {
	return selects(a.Pools, a.PoolSelectors, p) && MatchesAny(a.ServiceSelectors, s.Labels)
}

// Tells reports whether the advertisement is for the peer of that name.
func (a BGPAdvertisement) Tells(peer string) bool {
	return len(a.Peers) == 0 || slices.Contains(a.Peers, peer)
}

// Prefix returns what is announced for addr.
func (a BGPAdvertisement) Prefix(addr netip.Addr) netip.Prefix {
	length := a.LengthV6
	if addr.Is4() {
		length = a.Length
	}
	p, err := addr.Prefix(length)
	if err != nil {
		panic("lb: a BGPAdvertisement with a length that no prefix has: " + err.Error())
	}
	return p
}
