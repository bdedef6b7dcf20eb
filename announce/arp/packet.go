package arp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// Op is an ARP operation.
type Op uint16

// The two operations of RFC 826.
const (
	Request Op = 1
	Reply   Op = 2
)

// Broadcast is the Ethernet broadcast address.
func Broadcast() lb.MAC { return lb.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// Packet is an ARP packet for IPv4 over Ethernet together with the addresses of its frame. It is comparable.
type Packet struct {
	EthDst, EthSrc lb.MAC
	Op             Op
	SenderMAC      lb.MAC
	SenderIP       netip.Addr
	TargetMAC      lb.MAC
	TargetIP       netip.Addr
}

// String returns the packet the way tcpdump would put it.
func (p Packet) String() string {
	what := fmt.Sprintf("op %d", p.Op)
	switch p.Op {
	case Request:
		what = fmt.Sprintf("who-has %s tell %s", p.TargetIP, p.SenderIP)
	case Reply:
		what = fmt.Sprintf("%s is-at %x", p.SenderIP, p.SenderMAC)
	}
	return fmt.Sprintf("%x > %x %s", p.EthSrc, p.EthDst, what)
}

const (
	headerLen = 14             // Ethernet
	frameLen  = headerLen + 28 // and ARP for IPv4; the sender's driver pads to 60

	etherTypeARP  = 0x0806
	etherTypeIPv4 = 0x0800
	hardwareEther = 1
)

// errNotARP says that a frame is not ARP for IPv4 over Ethernet.
var errNotARP = errors.New("not an ARP packet for IPv4 over Ethernet")

// Parse reads an Ethernet frame. Bytes after the packet are padding and ignored.
func Parse(frame []byte) (Packet, error) {
	if len(frame) < frameLen || binary.BigEndian.Uint16(frame[12:]) != etherTypeARP {
		return Packet{}, errNotARP
	}
	b := frame[headerLen:]
	if binary.BigEndian.Uint16(b) != hardwareEther || binary.BigEndian.Uint16(b[2:]) != etherTypeIPv4 || b[4] != 6 || b[5] != 4 {
		return Packet{}, errNotARP
	}
	return Packet{
		EthDst:    lb.MAC(frame[0:6]),
		EthSrc:    lb.MAC(frame[6:12]),
		Op:        Op(binary.BigEndian.Uint16(b[6:])),
		SenderMAC: lb.MAC(b[8:14]),
		SenderIP:  netip.AddrFrom4([4]byte(b[14:18])),
		TargetMAC: lb.MAC(b[18:24]),
		TargetIP:  netip.AddrFrom4([4]byte(b[24:28])),
	}, nil
}

// Append appends the packet's frame to b. It panics if an address is not IPv4.
func (p Packet) Append(b []byte) []byte {
	b = append(b, p.EthDst[:]...)
	b = append(b, p.EthSrc[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeARP)
	b = binary.BigEndian.AppendUint16(b, hardwareEther)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv4)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, uint16(p.Op))
	sender, target := p.SenderIP.As4(), p.TargetIP.As4()
	b = append(b, p.SenderMAC[:]...)
	b = append(b, sender[:]...)
	b = append(b, p.TargetMAC[:]...)
	return append(b, target[:]...)
}
