package arp

import (
	"net/netip"

	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/lb"
)

// Drop says why a packet gets no answer; "" means that it gets one.
type Drop string

// Why a packet gets no answer.
const (
	DropNotRequest   Drop = "NotRequest"   // a reply, or an operation that nobody uses
	DropNotOwned     Drop = "NotOwned"     // the address belongs to somebody else
	DropOwn          Drop = "Own"          // it came from us
	DropNotAddressed Drop = "NotAddressed" // the frame was sent to another station
	DropAnnouncement Drop = "Announcement" // a gratuitous request: it tells, it does not ask
	DropBadSender    Drop = "BadSender"    // the sender's hardware address is a group's or nobody's, so an answer would reach others
)

// Answer returns the reply to p of a node that has mac on the link and owns the given addresses there, or why there is none.
// Probes (sender 0.0.0.0, RFC 5227) are answered, so that a host that wants our address notices us.
func Answer(p Packet, owned neighbour.Owned, mac lb.MAC) (reply Packet, drop Drop) {
	if p.Op != Request {
		return Packet{}, DropNotRequest
	}
	if _, ok := owned[p.TargetIP]; !ok {
		return Packet{}, DropNotOwned
	}
	switch {
	case p.SenderMAC == mac:
		return Packet{}, DropOwn
	case p.EthDst != mac && p.EthDst != Broadcast():
		return Packet{}, DropNotAddressed
	case p.SenderIP == p.TargetIP:
		return Packet{}, DropAnnouncement
	case p.SenderMAC == lb.MAC{} || p.SenderMAC[0]&1 == 1:
		return Packet{}, DropBadSender
	}
	return Packet{
		EthDst: p.SenderMAC, EthSrc: mac, Op: Reply,
		SenderMAC: mac, SenderIP: p.TargetIP,
		TargetMAC: p.SenderMAC, TargetIP: p.SenderIP,
	}, ""
}

// Claimed returns the address that p's sender says it uses (RFC 5227 section 2.4) or probes for (section 2.1.1). It is the zero
// Claim if p came from mac itself, or somebody else spoke for mac.
func Claimed(p Packet, mac lb.MAC) neighbour.Claim {
	switch {
	case p.SenderMAC == mac || p.EthSrc == mac:
		return neighbour.Claim{}
	case !p.SenderIP.IsUnspecified():
		return neighbour.Claim{Addr: p.SenderIP, MAC: p.SenderMAC}
	case p.Op == Request:
		return neighbour.Claim{Addr: p.TargetIP, MAC: p.SenderMAC, Probe: true}
	}
	return neighbour.Claim{}
}

// Probe returns the packet that asks who has addr without entering anything into the neighbours' caches.
func Probe(addr netip.Addr, mac lb.MAC) Packet {
	return Packet{EthDst: Broadcast(), EthSrc: mac, Op: Request, SenderMAC: mac, SenderIP: netip.IPv4Unspecified(), TargetIP: addr}
}

// Gratuitous returns the two packets that tell a segment that addr is at mac now.
func Gratuitous(addr netip.Addr, mac lb.MAC) [2]Packet {
	p := Packet{EthDst: Broadcast(), EthSrc: mac, Op: Request, SenderMAC: mac, SenderIP: addr, TargetIP: addr}
	r := p
	r.Op, r.TargetMAC = Reply, mac
	return [2]Packet{p, r}
}
