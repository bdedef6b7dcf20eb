package conntrack

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lb"
)

// entry is what matters here of an entry of conntrack.
type entry struct {
	protocol lb.Protocol
	to       netip.AddrPort // where the client sends
	from     netip.AddrPort // who answers: the endpoint, or to if nobody translates the flow
	state    uint8          // of TCP, as in nf_conntrack_tcp.h; 0 = not told
}

// parse reads a message of ctnetlink: struct nfgenmsg and attributes. ok is false for what no listener can be meant by.
func parse(message []byte) (e entry, ok bool) {
	if len(message) < nl.SizeofNfgenmsg {
		return e, false
	}
	var protocol uint8
	for kind, value := range attributes(message[nl.SizeofNfgenmsg:]) {
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			protocol, _, e.to = tuple(value)
		case nl.CTA_TUPLE_REPLY:
			_, e.from, _ = tuple(value)
		case nl.CTA_PROTOINFO:
			e.state = tcpState(value)
		}
	}
	e.protocol, ok = lb.ProtocolOf(protocol)
	return e, ok && e.to.IsValid() && e.from.IsValid()
}

// tuple reads one direction of a flow.
func tuple(b []byte) (protocol uint8, src, dst netip.AddrPort) {
	var srcAddr, dstAddr netip.Addr
	var srcPort, dstPort uint16
	for part, b := range attributes(b) {
		for kind, value := range attributes(b) {
			switch {
			case part == nl.CTA_TUPLE_IP && (kind == nl.CTA_IP_V4_SRC || kind == nl.CTA_IP_V6_SRC):
				srcAddr, _ = netip.AddrFromSlice(value)
			case part == nl.CTA_TUPLE_IP && (kind == nl.CTA_IP_V4_DST || kind == nl.CTA_IP_V6_DST):
				dstAddr, _ = netip.AddrFromSlice(value)
			case part == nl.CTA_TUPLE_PROTO && kind == nl.CTA_PROTO_NUM && len(value) == 1:
				protocol = value[0]
			case part == nl.CTA_TUPLE_PROTO && kind == nl.CTA_PROTO_SRC_PORT && len(value) == 2:
				srcPort = binary.BigEndian.Uint16(value)
			case part == nl.CTA_TUPLE_PROTO && kind == nl.CTA_PROTO_DST_PORT && len(value) == 2:
				dstPort = binary.BigEndian.Uint16(value)
			}
		}
	}
	return protocol, netip.AddrPortFrom(srcAddr.Unmap(), srcPort), netip.AddrPortFrom(dstAddr.Unmap(), dstPort)
}

func tcpState(b []byte) (state uint8) {
	for protocol, b := range attributes(b) {
		for kind, value := range attributes(b) {
			if protocol == nl.CTA_PROTOINFO_TCP && kind == nl.CTA_PROTOINFO_TCP_STATE && len(value) == 1 {
				state = value[0]
			}
		}
	}
	return state
}

// attributes goes through a sequence of netlink attributes, up to the first that is not well formed.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(kind uint16, value []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofNlAttr || size > len(b) || !yield(binary.NativeEndian.Uint16(b[2:])&nl.NLA_TYPE_MASK, b[unix.SizeofNlAttr:size]) {
				return
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}
