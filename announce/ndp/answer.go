package ndp

import (
	"net/netip"

	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/lb"
)

// Drop says why a packet gets no answer; "" means that it gets one.
type Drop string

// Why a packet gets no answer.
const (
	DropNotSolicitation Drop = "NotSolicitation" // an advertisement
	DropNotOwned        Drop = "NotOwned"        // the address belongs to somebody else
	DropOwn             Drop = "Own"             // it came from us
	DropNotAddressed    Drop = "NotAddressed"    // it was sent to another station, or not to the address or a group of its own
	DropBadSender       Drop = "BadSender"       // the sender's hardware address is a group's or nobody's, so an answer would reach others
)

// Answer returns the advertisement that answers p, of a node that has mac on the link and owns the given addresses there, or why
// there is none.
func Answer(p Packet, owned neighbour.Owned, mac lb.MAC) (reply Packet, drop Drop) {
	if p.Type != Solicitation {
		return Packet{}, DropNotSolicitation
	}
	if _, ok := owned[p.Target]; !ok {
		return Packet{}, DropNotOwned
	}
	to := p.EthSrc
	if p.HasLinkAddr {
		to = p.LinkAddr
	}
	switch {
	case p.EthSrc == mac || to == mac:
		return Packet{}, DropOwn
	case p.Dst != p.Target && p.Dst != SolicitedNode(p.Target) && p.Dst != AllNodes():
		return Packet{}, DropNotAddressed
	case p.EthDst != mac && (!p.Dst.IsMulticast() || p.EthDst != groupMAC(p.Dst)):
		return Packet{}, DropNotAddressed
	case to == lb.MAC{} || to[0]&1 == 1:
		return Packet{}, DropBadSender
	}
	if p.Src.IsUnspecified() {
		return Unsolicited(p.Target, mac), "" // RFC 4861 section 7.2.4; the only difference would be who reads it
	}
	return Packet{
		EthDst: to, EthSrc: mac, Src: p.Target, Dst: p.Src, Type: Advertisement,
		Solicited: true, Override: true, Target: p.Target, LinkAddr: mac, HasLinkAddr: true,
	}, ""
}

// Claimed returns the address that p's sender says it uses, or wants to. It is the zero Claim if p came from mac itself, or
// somebody else spoke for mac, or it is a probe with our nonce.
func Claimed(p Packet, mac lb.MAC, nonce [6]byte) neighbour.Claim {
	from := p.EthSrc
	if p.HasLinkAddr {
		from = p.LinkAddr
	}
	switch {
	case from == mac || p.EthSrc == mac:
		return neighbour.Claim{}
	case p.Type == Advertisement:
		return neighbour.Claim{Addr: p.Target, MAC: from}
	case !p.Src.IsUnspecified():
		return neighbour.Claim{Addr: p.Src, MAC: from}
	case p.HasNonce && p.Nonce == nonce:
		return neighbour.Claim{}
	}
	return neighbour.Claim{Addr: p.Target, MAC: from, Probe: true}
}

// Unsolicited returns the advertisement that tells a segment that addr is at mac now, whatever it believed before.
func Unsolicited(addr netip.Addr, mac lb.MAC) Packet {
	return Packet{
		EthDst: groupMAC(AllNodes()), EthSrc: mac, Src: addr, Dst: AllNodes(), Type: Advertisement,
		Override: true, Target: addr, LinkAddr: mac, HasLinkAddr: true,
	}
}

// Probe returns the solicitation that asks who has addr without entering anything into the neighbours' caches.
func Probe(addr netip.Addr, mac lb.MAC, nonce [6]byte) Packet {
	group := SolicitedNode(addr)
	return Packet{EthDst: groupMAC(group), EthSrc: mac, Src: netip.IPv6Unspecified(), Dst: group, Type: Solicitation, Target: addr,
		Nonce: nonce, HasNonce: true}
}
