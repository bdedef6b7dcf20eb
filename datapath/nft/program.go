package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// family is what differs between IPv4 and IPv6.
type family struct {
	digit        string // "4"
	nfproto      byte
	addr         field
	saddr, daddr uint32 // offsets in the header
	icmp, echo   byte   // protocol, type of a ping
	tunnel       byte   // protocol of a packet in a packet
	neighbours   bool   // ICMP carries neighbour discovery too
}

var (
	ipv4 = family{digit: "4", nfproto: unix.NFPROTO_IPV4, addr: typeIPv4, saddr: 12, daddr: 16, icmp: unix.IPPROTO_ICMP, echo: 8, tunnel: unix.IPPROTO_IPIP}
	ipv6 = family{digit: "6", nfproto: unix.NFPROTO_IPV6, addr: typeIPv6, saddr: 8, daddr: 24, icmp: unix.IPPROTO_ICMPV6, echo: 128,
		tunnel: unix.IPPROTO_IPV6, neighbours: true}
)

func families() []family { return []family{ipv4, ipv6} }

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// width is how many registers an address takes.
func (f family) width() int { return f.addr.bytes / 4 }

// The registers are words of 32 bits, numbered from 0 here; there are 16. A key of several fields lies in successive ones.
func reg(i int) uint32 { return unix.NFT_REG32_00 + uint32(i) }

// listenerFields is the key of everything that is kept per listener.
func (f family) listenerFields() fields { return fields{f.addr, typeProto, typeService} }

// endpointFields is the value of what leads to an endpoint.
func (f family) endpointFields() fields { return fields{f.addr, typeService} }

func (f family) loadSource(r int) expr.Any {
	return &expr.Payload{DestRegister: reg(r), Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: uint32(f.addr.bytes)}
}

func (f family) loadDestination(r int) expr.Any {
	return &expr.Payload{DestRegister: reg(r), Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: uint32(f.addr.bytes)}
}

// loadListener puts what the packet is for into registers from 0: address (the unspecified one for a node port), protocol, port. It
// takes width()+2 of them.
func (f family) loadListener(nodePort bool) rule {
	var addr any = f.loadDestination(0)
	if nodePort {
		addr = &expr.Immediate{Register: reg(0), Data: make([]byte, f.addr.bytes)}
	}
	return rule{addr,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(f.width())},
		&expr.Payload{DestRegister: reg(f.width() + 1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
}

// in goes on if the key in registers from r is in the set.
func in(set string, r int) expr.Any { return &expr.Lookup{SourceRegister: reg(r), SetName: set} }

// find goes on if the key is in the map, with its value in registers from to.
func find(set string, r, to int) expr.Any {
	return &expr.Lookup{SourceRegister: reg(r), DestRegister: reg(to), IsDestRegSet: true, SetName: set}
}

// follow does what the verdict map says about the key.
func follow(set string, r int) expr.Any {
	return &expr.Lookup{SourceRegister: reg(r), DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: set}
}

func equal(r int, value ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg(r), Data: value}
}

// not goes on where the condition, of which the last expression decides, does not.
func not(condition rule) rule {
	last := len(condition) - 1
	out := slices.Clone(condition)
	switch x := condition[last].(type) {
	case *expr.Cmp:
		out[last] = &expr.Cmp{Op: map[expr.CmpOp]expr.CmpOp{expr.CmpOpEq: expr.CmpOpNeq, expr.CmpOpNeq: expr.CmpOpEq}[x.Op], Register: x.Register, Data: x.Data}
	case *expr.Lookup:
		out[last] = &expr.Lookup{SourceRegister: x.SourceRegister, SetName: x.SetName, Invert: !x.Invert}
	default:
		panic(fmt.Sprintf("nft: %T is no condition", x))
	}
	return out
}

// ifMeta goes on if a property of the packet has a value; it uses register 0.
func ifMeta(key expr.MetaKey, value ...byte) rule {
	return rule{&expr.Meta{Key: key, Register: reg(0)}, equal(0, value...)}
}

// ifState goes on if conntrack sees the packet in one of the states; it uses register 0.
func ifState(bits uint32) rule {
	return rule{&expr.Ct{Key: expr.CtKeySTATE, Register: reg(0)}, mask(0, bits), &expr.Cmp{Op: expr.CmpOpNeq, Register: reg(0), Data: word(0)}}
}

func mask(r int, bits uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: reg(r), DestRegister: reg(r), Len: 4, Mask: word(bits), Xor: word(0)}
}

func word(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// ifOwnSource goes on if the packet's source is an address of this node, by whatever route table; it uses register 0.
func ifOwnSource() rule { return ifSourceType(expr.CmpOpEq) }

func ifForeignSource() rule { return ifSourceType(expr.CmpOpNeq) }

func ifSourceType(op expr.CmpOp) rule {
	return rule{&expr.Fib{Register: reg(0), FlagSADDR: true, ResultADDRTYPE: true}, &expr.Cmp{Op: op, Register: reg(0), Data: word(unix.RTN_LOCAL)}}
}

// ifOutput goes on if the packet came in through no interface: it is the node's own output. It uses register 0.
func ifOutput() rule { return ifMeta(expr.MetaKeyIIF, word(0)...) }

func setMark(bit uint32) rule {
	return rule{&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)},
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 4, Mask: word(^bit), Xor: word(bit)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg(0)}}
}

// ifMarked goes on if the bit is set, which alone is in register 0 then.
func ifMarked(bit uint32) rule {
	return rule{&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)}, mask(0, bit), equal(0, word(bit)...)}
}

// ifMark goes on if the bit is set, and clears it; it uses register 0.
func ifMark(bit uint32) rule {
	return append(ifMarked(bit),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)}, mask(0, ^bit), &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg(0)})
}

func verdict(kind expr.VerdictKind, chain string) rule {
	return rule{&expr.Verdict{Kind: kind, Chain: chain}}
}

// loadConnection puts the listener that the connection was opened to into registers from 0, the endpoint that answers it behind.
func (f family) loadConnection(nodePort bool) rule {
	w, from, to := f.width(), uint32(unix.NFT_CT_SRC_IP), uint32(unix.NFT_CT_DST_IP)
	if w == 4 {
		from, to = unix.NFT_CT_SRC_IP6, unix.NFT_CT_DST_IP6
	}
	var addr any = tuple{to, 0, reg(0)}
	if nodePort {
		addr = &expr.Immediate{Register: reg(0), Data: make([]byte, f.addr.bytes)}
	}
	return rule{addr, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(w)}, tuple{unix.NFT_CT_PROTO_DST, 0, reg(w + 1)},
		tuple{from, 1, reg(w + 2)}, tuple{unix.NFT_CT_PROTO_SRC, 1, reg(2*w + 2)}}
}

func goTo(chain string) rule { return verdict(expr.VerdictGoto, chain) }
func jump(chain string) rule { return verdict(expr.VerdictJump, chain) }
func drop() rule             { return verdict(expr.VerdictDrop, "") }
func accept() rule           { return verdict(expr.VerdictAccept, "") }
func back() rule             { return verdict(expr.VerdictReturn, "") }
func masquerade() rule       { return rule{&expr.Masq{FullyRandom: true}} }

// The keys and values of elements, as the kernel has them in its registers.

func padded(b []byte) string { return string(append(b, make([]byte, -len(b)&3)...)) }

func addrKey(a netip.Addr) string { return string(a.AsSlice()) }

func portKey(n uint16) string { return padded(binary.BigEndian.AppendUint16(nil, n)) }

func listenerKey(l datapath.Listener) string {
	return addrKey(l.Addr.Addr()) + padded([]byte{l.Protocol.Number()}) + portKey(l.Addr.Port())
}

// listenerOf is the reverse of listenerKey.
func (f family) listenerOf(key []byte) (l datapath.Listener, ok bool) {
	n := f.addr.bytes
	if len(key) < n+8 {
		return l, false
	}
	addr, ok := netip.AddrFromSlice(key[:n])
	l.Addr = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(key[n+4:]))
	protocol, known := lb.ProtocolOf(key[n])
	l.Protocol = protocol
	return l, ok && known
}

func endpointKey(a netip.AddrPort) string { return addrKey(a.Addr()) + portKey(a.Port()) }
