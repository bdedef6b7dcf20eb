package ndp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// Type is an ICMPv6 type.
type Type uint8

// The two messages of RFC 4861 that find neighbours.
const (
	Solicitation  Type = 135
	Advertisement Type = 136
)

// Packet is a neighbour solicitation or advertisement together with the addresses of its frame. It is comparable.
type Packet struct {
	EthDst, EthSrc    lb.MAC
	Src, Dst          netip.Addr
	Type              Type
	Router, Solicited bool // flags of an advertisement
	Override          bool
	Target            netip.Addr
	LinkAddr          lb.MAC // source (solicitation) or target (advertisement) link-layer address
	HasLinkAddr       bool
	Nonce             [6]byte // RFC 3971 section 5.3.2, of a solicitation
	HasNonce          bool
}

// String returns the packet the way tcpdump would put it.
func (p Packet) String() string {
	if p.Type == Solicitation {
		return fmt.Sprintf("%x > %x %s > %s who has %s", p.EthSrc, p.EthDst, p.Src, p.Dst, p.Target)
	}
	return fmt.Sprintf("%x > %x %s > %s tgt is %s at %x, router %t solicited %t override %t",
		p.EthSrc, p.EthDst, p.Src, p.Dst, p.Target, p.LinkAddr, p.Router, p.Solicited, p.Override)
}

const (
	ethernetLen = 14
	ipv6Len     = 40
	messageLen  = 24 // without options
	headersLen  = ethernetLen + ipv6Len
	optionLen   = 8 // of the options that are used here

	etherTypeIPv6 = 0x86dd
	protoICMPv6   = 58
	hopLimit      = 255 // what has passed a router has less

	optionSource = 1
	optionTarget = 2
	optionNonce  = 14

	flagRouter, flagSolicited, flagOverride = 0x80, 0x40, 0x20
)

// Why a frame is not taken for a packet.
var (
	errNotNDP    = errors.New("not a neighbour solicitation or advertisement")
	errMalformed = errors.New("a neighbour solicitation or advertisement that breaks RFC 4861 section 7.1")
	errChecksum  = errors.New("a neighbour solicitation or advertisement with a wrong checksum")
)

// Parse reads an Ethernet frame. Bytes after the IPv6 packet are padding and ignored.
func Parse(frame []byte) (Packet, error) {
	if len(frame) < headersLen+messageLen || binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv6 {
		return Packet{}, errNotNDP
	}
	ip := frame[ethernetLen:]
	length := int(binary.BigEndian.Uint16(ip[4:]))
	if ip[0]>>4 != 6 || ip[6] != protoICMPv6 || length < messageLen || length > len(ip)-ipv6Len {
		return Packet{}, errNotNDP
	}
	message := ip[ipv6Len:][:length]
	p := Packet{
		EthDst: lb.MAC(frame[0:6]), EthSrc: lb.MAC(frame[6:12]),
		Src: netip.AddrFrom16([16]byte(ip[8:24])), Dst: netip.AddrFrom16([16]byte(ip[24:40])),
		Type: Type(message[0]), Target: netip.AddrFrom16([16]byte(message[8:24])),
	}
	if p.Type != Solicitation && p.Type != Advertisement {
		return Packet{}, errNotNDP
	}
	if p.Type == Advertisement {
		flags := message[4]
		p.Router, p.Solicited, p.Override = flags&flagRouter != 0, flags&flagSolicited != 0, flags&flagOverride != 0
	}
	if ip[7] != hopLimit || message[1] != 0 || !p.readOptions(message[messageLen:]) || !p.valid() {
		return Packet{}, errMalformed
	}
	if checksum(ip[8:40], message) != 0 {
		return Packet{}, errChecksum
	}
	return p, nil
}

// readOptions reports whether the options are well-formed. Of two alike the last one counts.
func (p *Packet) readOptions(b []byte) bool {
	for len(b) > 0 {
		if len(b) < optionLen || b[1] == 0 || int(b[1])*8 > len(b) {
			return false
		}
		one := b[1] == 1
		switch {
		case b[0] == optionSource && p.Type == Solicitation, b[0] == optionTarget && p.Type == Advertisement:
			if !one {
				return false // not an Ethernet address
			}
			p.LinkAddr, p.HasLinkAddr = lb.MAC(b[2:8]), true
		case b[0] == optionNonce && p.Type == Solicitation && one:
			p.Nonce, p.HasNonce = [6]byte(b[2:8]), true
		}
		b = b[int(b[1])*8:]
	}
	return true
}

// valid applies the rules of RFC 4861 sections 7.1.1 and 7.1.2 that connect several fields.
func (p *Packet) valid() bool {
	switch {
	case p.Target.IsMulticast() || p.Target.IsUnspecified() || p.Src.IsMulticast():
		return false
	case p.Type == Advertisement:
		return !p.Src.IsUnspecified() && (!p.Dst.IsMulticast() || !p.Solicited)
	case p.Src.IsUnspecified():
		return p.Dst == SolicitedNode(p.Target) && !p.HasLinkAddr
	}
	return true
}

// Append appends the packet's frame to b. It panics if an address is not IPv6.
func (p Packet) Append(b []byte) []byte {
	length := messageLen
	if p.HasLinkAddr {
		length += optionLen
	}
	if p.HasNonce {
		length += optionLen
	}
	start := len(b)
	b = append(b, p.EthDst[:]...)
	b = append(b, p.EthSrc[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv6)
	b = append(b, 6<<4, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, protoICMPv6, hopLimit)
	src, dst, target := must16(p.Src), must16(p.Dst), must16(p.Target)
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	b = append(b, byte(p.Type), 0, 0, 0, p.flags(), 0, 0, 0)
	b = append(b, target[:]...)
	if p.HasLinkAddr {
		kind := byte(optionSource)
		if p.Type == Advertisement {
			kind = optionTarget
		}
		b = append(append(b, kind, 1), p.LinkAddr[:]...)
	}
	if p.HasNonce {
		b = append(append(b, optionNonce, 1), p.Nonce[:]...)
	}
	ip := b[start+ethernetLen:]
	binary.BigEndian.PutUint16(ip[ipv6Len+2:], checksum(ip[8:40], ip[ipv6Len:]))
	return b
}

func (p Packet) flags() (f byte) {
	if p.Type != Advertisement {
		return 0
	}
	if p.Router {
		f |= flagRouter
	}
	if p.Solicited {
		f |= flagSolicited
	}
	if p.Override {
		f |= flagOverride
	}
	return f
}

func must16(a netip.Addr) [16]byte {
	if !a.Is6() {
		panic("ndp: " + a.String() + " is not an IPv6 address")
	}
	return a.As16()
}

// checksum returns the Internet checksum of an ICMPv6 message with the pseudo-header of its addresses (RFC 4443 section 2.3);
// 0 if the message contains the right one.
func checksum(addresses, message []byte) uint16 {
	sum := uint64(len(message)) + protoICMPv6
	for _, part := range [2][]byte{addresses, message} {
		for len(part) >= 4 {
			sum += uint64(binary.BigEndian.Uint32(part))
			part = part[4:]
		}
		for i, x := range part {
			sum += uint64(x) << (24 - 8*i)
		}
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// AllNodes is the group of all nodes of the link.
func AllNodes() netip.Addr { return netip.IPv6LinkLocalAllNodes() }

// SolicitedNode returns the group at which those are asked who may have addr (RFC 4291 section 2.7.1).
func SolicitedNode(addr netip.Addr) netip.Addr {
	g, a := [16]byte{0xff, 0x02, 11: 1, 12: 0xff}, addr.As16()
	copy(g[13:], a[13:])
	return netip.AddrFrom16(g)
}

// groupMAC returns the Ethernet address of an IPv6 group (RFC 2464 section 7).
func groupMAC(group netip.Addr) lb.MAC {
	g := group.As16()
	return lb.MAC{0x33, 0x33, g[12], g[13], g[14], g[15]}
}
