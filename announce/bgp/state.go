package bgp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// State is everything this node shall do by BGP. Its slices are sorted: peers by name, paths by prefix.
type State struct {
	Peers []Peer

	// Complete says that the paths are all that this node has to say. A speaker that has just started programs its datapath
	// first, and adds what is ready: until it is through, peers are not told the End-of-RIB (RFC 4724), or a router that
	// restarts with us gracefully would drop what it has not heard again yet.
	Complete bool

	// Preserved says that the kernel has gone on forwarding since the paths were told the last time: it was not found empty when
	// the speaker started, or has been filled since. Otherwise routers must not keep what an earlier session told them.
	Preserved bool

	// Keep says that the speaker is about to end and will be back soon: when its process ends too, or the speaker is silent, the
	// sessions with graceful restart end without a NOTIFICATION, so that their peers keep our paths.
	Keep bool

	// Seq is given back in [Report.Seq]. It grows with every State that is set.
	Seq uint64
}

// ASNRule is how the AS number of a peer is found out where it is not configured.
type ASNRule string

// The rules of BGPPeer's dynamicASN: the peer has our own AS number, or any other.
const (
	Internal ASNRule = "internal"
	External ASNRule = "external"
)

// Peer is a neighbour of this node, what the session with it is like, and what it is told.
type Peer struct {
	Name string // of the BGPPeer object, unique in a State

	// Where: Addr and Port, or Interface for a link on which the peer's link-local address is learned from its router
	// advertisements (unnumbered). Addr has a zone where it is link-local.
	Addr      netip.Addr
	Interface string
	Port      uint16
	VRF       string     // the VRF device to connect through; "" = the main table
	Source    netip.Addr // of our end; the zero Addr leaves it to the kernel

	MyASN, PeerASN uint32  // PeerASN is 0 where Dynamic says how it is found out
	Dynamic        ASNRule // "" = PeerASN counts
	RouterID       netip.Addr

	HoldTime     time.Duration // whole seconds, 0 or 3 s to 65535 s; 0 = the session never times out
	Keepalive    time.Duration // whole seconds, at most HoldTime / 3 makes sense
	ConnectRetry time.Duration // whole seconds, 1 s to 65535 s
	Password     string        // TCP-MD5 (RFC 2385), at most 80 bytes; "" = none
	MultiHop     bool          // of an external peer: it may be several hops away
	TTLSecurity  uint8         // GTSM (RFC 5082): how many hops away the peer may be at most, 1 to 254; 0 = off
	MaxPrefixes  uint32        // of one family that the peer may send before the session is closed; 0 = any number

	GracefulRestart bool
	RestartTime     time.Duration // whole seconds, 1 s to 4095 s: how long the peer keeps our paths while we restart

	Families []lb.Family // sorted; which families the session carries

	BFD     *BFD // nil = none
	BFDDown bool // BFD says that the peer is gone: close the session, and do not connect until it is back

	// Held says why no session may be opened now although the peer is configured, e.g. because its password cannot be read.
	Held lb.Refusal

	Paths []Path
}

// BFD is how liveness of a peer is watched (RFC 5880). Zero values are not defaults.
type BFD struct {
	Receive, Transmit time.Duration // 10 ms to 60 s
	Multiplier        uint8         // 2 to 255
	Passive           bool
	MinTTL            uint8 // multihop only: packets with less are dropped
	MultiHop          bool  // RFC 5883, port 4784; else RFC 5881, port 3784, TTL 255
}

// Path is one prefix as one peer is told of it.
type Path struct {
	Prefix    netip.Prefix // masked
	LocalPref uint32       // internal peers only; 0 = not sent
	MED       *uint32      // nil = not sent
	Prepend   uint8        // how many times our AS number stands in the path additionally; external peers only

	Communities []uint32         // RFC 1997, sorted
	Large       []LargeCommunity // RFC 8092, sorted

	// Weight is the bandwidth in the link bandwidth community (draft-ietf-idr-link-bandwidth), bytes per second; 0 = not sent.
	Weight float32
}

// LargeCommunity is a large community (RFC 8092).
type LargeCommunity struct {
	Global, Local1, Local2 uint32
}

// GracefulShutdown is the well-known community by which a peer is asked to prefer all other paths (RFC 8326).
const GracefulShutdown uint32 = 0xFFFF0000

// Compare orders large communities.
func (c LargeCommunity) Compare(o LargeCommunity) int {
	return cmp.Or(cmp.Compare(c.Global, o.Global), cmp.Compare(c.Local1, o.Local1), cmp.Compare(c.Local2, o.Local2))
}

// String returns "global:local1:local2".
func (c LargeCommunity) String() string { return fmt.Sprintf("%d:%d:%d", c.Global, c.Local1, c.Local2) }

// Equal reports whether both say the same.
func (p Path) Equal(o Path) bool {
	return p.Prefix == o.Prefix && p.LocalPref == o.LocalPref && equalPointers(p.MED, o.MED) && p.Prepend == o.Prepend &&
		p.Weight == o.Weight && slices.Equal(p.Communities, o.Communities) && slices.Equal(p.Large, o.Large)
}

// String returns the path on one line, without what is not sent.
func (p Path) String() string {
	out := []string{p.Prefix.String()}
	if p.LocalPref > 0 {
		out = append(out, fmt.Sprintf("local-pref %d", p.LocalPref))
	}
	if p.MED != nil {
		out = append(out, fmt.Sprintf("med %d", *p.MED))
	}
	if p.Prepend > 0 {
		out = append(out, fmt.Sprintf("prepend %d", p.Prepend))
	}
	for _, c := range p.Communities {
		out = append(out, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
	}
	for _, c := range p.Large {
		out = append(out, "large:"+c.String())
	}
	if p.Weight > 0 {
		out = append(out, fmt.Sprintf("bandwidth %g", p.Weight))
	}
	return strings.Join(out, " ")
}

// SameSession reports whether a session that was opened for p may stay when o is wanted. Paths, and what BFD and the password's
// Secret say at the moment, do not touch the session itself.
func (p Peer) SameSession(o Peer) bool {
	return p.Name == o.Name && p.Addr == o.Addr && p.Interface == o.Interface && p.Port == o.Port && p.VRF == o.VRF && p.Source == o.Source &&
		p.MyASN == o.MyASN && p.PeerASN == o.PeerASN && p.Dynamic == o.Dynamic && p.RouterID == o.RouterID &&
		p.HoldTime == o.HoldTime && p.Keepalive == o.Keepalive && p.ConnectRetry == o.ConnectRetry && p.Password == o.Password &&
		p.MultiHop == o.MultiHop && p.TTLSecurity == o.TTLSecurity && p.MaxPrefixes == o.MaxPrefixes &&
		p.GracefulRestart == o.GracefulRestart && p.RestartTime == o.RestartTime && slices.Equal(p.Families, o.Families)
}

// Equal reports whether both say the same.
func (p Peer) Equal(o Peer) bool {
	return p.SameSession(o) && equalPointers(p.BFD, o.BFD) && p.BFDDown == o.BFDDown && p.Held == o.Held &&
		slices.EqualFunc(p.Paths, o.Paths, Path.Equal)
}

// Equal reports whether both say the same, whatever their Seq.
func (s State) Equal(o State) bool {
	return s.Complete == o.Complete && s.Preserved == o.Preserved && s.Keep == o.Keep && slices.EqualFunc(s.Peers, o.Peers, Peer.Equal)
}

func equalPointers[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
