package tunnel

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// Magic begins every probe, behind the inner IP header.
const Magic = 0x464c5450 // "FLTP"

// The sizes of the inner IP headers, bytes: without options and extension headers (RFC 791 section 3.1, RFC 8200 section 3).
const (
	Header4 = 20
	Header6 = 40
)

// experiment is the protocol in the inner header: no kernel has a use for it (RFC 3692 section 2.1).
const experiment = 253

// maxName is the length of the longest name of a Node, a DNS subdomain, bytes.
const maxName = 253

// MaxSize bounds a probe with its inner header, bytes.
const MaxSize = Header6 + fixed + 2*maxName + sha256.Size

// fixed is what stands before the names: the magic, kind, key, lengths of the names, the nonce, and the pods.
const fixed = 4 + 4 + 16 + 16*len(Pods{})

// Kind is what a probe says.
type Kind uint8

// An Ask wants an Answer with the same nonce, or a Decline: it was heard, but the node cannot unpack what is tunnelled to it.
const (
	Ask Kind = iota + 1
	Answer
	Decline
)

// Nonce ties an answer to its ask; no two asks of all processes have the same.
type Nonce [16]byte

// Key signs probes. All speakers share it.
type Key struct {
	ID     uint8
	Secret [32]byte
}

// Pods are some endpoints of a node for which it takes tunnelled packets, of one family: the first addresses of the array.
type Pods [3]netip.Addr

// Packet is a probe.
type Packet struct {
	Kind     Kind
	From, To lb.NodeName // at most 253 bytes each
	Nonce    Nonce
	Pods     Pods // in an answer those of its sender; an ask has room for them, so that it is not shorter than its answer
}

// Drop says why a packet was not taken; "" = it was.
type Drop string

// Why packets are dropped.
const (
	DropMalformed Drop = "malformed" // no probe of ours
	DropKey       Drop = "key"       // signed with a key that is not known here
	DropSignature Drop = "signature"
	DropStranger  Drop = "stranger" // from a node that is no peer, or for another node
	DropStale     Drop = "stale"    // answers no ask that is open
)

// Marshal returns the probe as a whole IP packet from src to dst, two addresses of one family, signed with k.
func (p Packet) Marshal(src, dst netip.Addr, k Key) []byte {
	b := make([]byte, 0, MaxSize)
	size := fixed + len(p.From) + len(p.To) + sha256.Size
	if src.Is4() {
		b = header4(b, src, dst, size)
	} else {
		b = header6(b, src, dst, size)
	}
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, Magic)
	b = append(b, byte(p.Kind), k.ID, byte(len(p.From)), byte(len(p.To)))
	b = append(b, p.Nonce[:]...)
	for _, pod := range p.Pods {
		as16 := pod.As16()
		b = append(b, as16[:]...)
	}
	b = append(b, p.From...)
	b = append(b, p.To...)
	return append(b, k.sign(b[start:])...)
}

func (k Key) sign(b []byte) []byte {
	h := hmac.New(sha256.New, k.Secret[:])
	h.Write(b)
	return h.Sum(nil)
}

// header4 appends an IPv4 header for a payload of size bytes.
func header4(b []byte, src, dst netip.Addr, size int) []byte {
	start := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(Header4+size))
	b = append(b, 0, 0, 0, 0, hopLimit, experiment, 0, 0)
	b = append(b, src.AsSlice()...)
	b = append(b, dst.AsSlice()...)
	var sum uint32 // RFC 1071
	for i := start; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[start+10:], ^uint16(sum))
	return b
}

// header6 appends an IPv6 header for a payload of size bytes.
func header6(b []byte, src, dst netip.Addr, size int) []byte {
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = append(b, experiment, hopLimit)
	b = append(b, src.AsSlice()...)
	return append(b, dst.AsSlice()...)
}

// hopLimit of the inner header: what comes out of the tunnel is for that node and nobody behind it.
const hopLimit = 1

// Parse reads what came in a tunnel: an inner IP packet, which is a probe if it is signed with one of the keys.
func Parse(b []byte, keys []Key) (Packet, Drop) {
	if len(b) == 0 {
		return Packet{}, DropMalformed
	}
	header := Header6
	if b[0]>>4 == 4 {
		header = Header4
	}
	if len(b) < header+fixed+sha256.Size || binary.BigEndian.Uint32(b[header:]) != Magic {
		return Packet{}, DropMalformed
	}
	b = b[header:]
	kind, id, from, to := Kind(b[4]), b[5], int(b[6]), int(b[7])
	signed := fixed + from + to
	if len(b) != signed+sha256.Size || from > maxName || to > maxName || kind < Ask || kind > Decline {
		return Packet{}, DropMalformed
	}
	drop := DropKey
	for _, k := range keys {
		if k.ID != id {
			continue
		}
		if hmac.Equal(k.sign(b[:signed]), b[signed:]) {
			drop = ""
			break
		}
		drop = DropSignature
	}
	if drop != "" {
		return Packet{}, drop
	}
	p := Packet{Kind: kind, From: lb.NodeName(b[fixed : fixed+from]), To: lb.NodeName(b[fixed+from : signed])}
	rest := b[8+copy(p.Nonce[:], b[8:]):]
	for i := range p.Pods {
		if a := netip.AddrFrom16([16]byte(rest[16*i:])); !a.IsUnspecified() {
			p.Pods[i] = a.Unmap()
		}
	}
	return p, ""
}
