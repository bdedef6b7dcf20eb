package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
)

// The base chains of direct server return, which exist only while a state has peers.
const (
	tunnelIn   = "tunnel-prerouting"     // wrapped packets, before anybody else sees them
	unwrapped  = "unwrapped-prerouting"  // what was in them
	unwrapNAT  = "unwrapped-nat"         // to the endpoint that they were for
	unwrapEnd  = "unwrapped-end"         // forgets which that was
	tunnelSize = "unwrapped-postrouting" // tells clients how long segments may be
)

// The sets and maps of one family.
func (f family) peers() string     { return "peers" + f.digit }     // who may send through the tunnel
func (f family) gates() string     { return "gates" + f.digit }     // endpoints of this node that may be sent to
func (f family) meant() string     { return "meant" + f.digit }     // listener . number of an endpoint
func (f family) tunnelled() string { return "tunnelled" + f.digit } // the same -> endpoint
func (f family) direct() string    { return "direct" + f.digit }    // listeners whose endpoints here answer past the receiving node

// tunnels is all about direct server return that the frame depends on.
type tunnels struct {
	on  bool
	mtu datapath.MTU
}

func tunnelsOf(s datapath.State) tunnels { return tunnels{len(s.Peers) > 0, s.MTU} }

// tunnelled writes a server for what other nodes have sent. They have chosen the endpoint, so that weights do not count.
func (o Options) tunnelled(r ruleset, v datapath.VirtualServer) {
	if o.Forward || v.Verdict != datapath.Forward {
		return
	}
	f, key := familyOf(v.Addr.Addr()), listenerKey(v.Listener)
	for _, d := range v.Destinations {
		addr := addrKey(d.Addr.Addr())
		n := addr[len(addr)-numberBytes:]
		r.shared(f.gates(), addr, "")
		r.element(f.meant(), key+n, "")
		r.element(f.tunnelled(), key+n, endpointKey(d.Addr))
	}
	if len(v.Destinations) > 0 {
		r.element(f.direct(), key, "")
	}
}

// numberBytes is how many of the last bytes of an endpoint's address fit into the priority of a packet: all of an IPv4 address. Should two
// IPv6 endpoints of a listener on one node have the same, one of them gets what is for either.
const numberBytes = 4

// tunnelHooks writes the way of packets that come wrapped in others. The outer packet must come from a peer and be for an endpoint of this
// node. Which one it is stays with the packet as its priority, which nothing looks at or changes between here and the inner packet's
// arrival; packet marks would be others' too. Then it is sent to the device, which unwraps nothing that is for another address: so nobody
// else's packets are unwrapped. The inner packet must be for a listener, of which it reaches the endpoint that was meant.
func tunnelHooks(r ruleset, mtu datapath.MTU) {
	base := func(name, kind string, hook uint32, priority int32) {
		r.chains[name] = chain{kind: kind, hook: hook, priority: priority}
	}
	base(tunnelIn, "filter", unix.NF_INET_PRE_ROUTING, -310) // conntrack has put fragments together at -400; raw tables begin at -300
	base(unwrapped, "filter", unix.NF_INET_PRE_ROUTING, -130)
	base(unwrapNAT, "nat", unix.NF_INET_PRE_ROUTING, -110) // behind the guard
	base(unwrapEnd, "filter", unix.NF_INET_PRE_ROUTING, -105)
	base(tunnelSize, "filter", unix.NF_INET_POST_ROUTING, -150)
	for _, f := range families() {
		f.wrapped(r)
		f.unwrap(r)
	}
	ipv4.clamp(r, mtu.IPv4-20-40) // the outer header; the inner IP and TCP headers
	ipv6.clamp(r, mtu.IPv6-40-60)
}

func (f family) device() datapath.Device {
	if f.digit == ipv4.digit {
		return datapath.TunnelDevice(netip.IPv4Unspecified())
	}
	return datapath.TunnelDevice(netip.IPv6Unspecified())
}

func (f family) wrapped(r ruleset) {
	own := f.device().Addr.AsSlice()
	outer := append(ifMeta(expr.MetaKeyNFPROTO, f.nfproto), ifMeta(expr.MetaKeyL4PROTO, f.tunnel)...)
	gate := rule{f.loadDestination(0), in(f.gates(), 0)}
	readdress := &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: reg(0), Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr,
		Len: uint32(f.addr.bytes)}
	if f.addr.bytes == 4 {
		readdress.CsumType, readdress.CsumOffset = expr.CsumTypeInet, 10
	}
	r.rule(tunnelIn, outer, rule{f.loadDestination(0), equal(0, own...)}, drop())
	r.rule(tunnelIn, outer, rule{f.loadSource(0), in(f.peers(), 0)}, gate, setPriority(f.width()-1),
		rule{&expr.Immediate{Register: reg(0), Data: own}, readdress}, back())
	r.rule(tunnelIn, outer, gate, drop())
}

func (f family) unwrap(r ruleset) {
	inner := rule{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg(0)}, equal(0, append([]byte(f.device().Name), 0)...)}
	w := f.width()
	meant := append(f.loadListener(false), &expr.Meta{Key: expr.MetaKeyPRIORITY, Register: reg(w + 2)})
	r.rule(unwrapped, inner, ifState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), back())
	r.rule(unwrapped, inner, meant, rule{in(f.meant(), 0)}, back())
	r.rule(unwrapped, inner, drop())
	r.rule(unwrapNAT, inner, meant, rule{find(f.tunnelled(), 0, w+3), &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.nfproto), RegAddrMin: reg(w + 3), RegProtoMin: reg(2*w + 3)}})
	r.rule(unwrapEnd, inner, rule{&expr.Immediate{Register: reg(0), Data: word(0)}}, setPriority(0))
}

// clamp lowers what an endpoint tells a client about the length of segments, since any node may have to send them through the tunnel.
func (f family) clamp(r ruleset, most int) {
	if most <= 0 {
		return
	}
	const mss = 2 // RFC 9293 §3.2
	const synAck = 0x12
	r.rule(tunnelSize, ifMeta(expr.MetaKeyNFPROTO, f.nfproto), ifMeta(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP), ifFlags(synAck, synAck),
		f.loadConnection(false)[:3], rule{in(f.direct(), 0)},
		rule{&expr.Immediate{Register: reg(0), Data: binary.BigEndian.AppendUint16(nil, uint16(min(most, 0xffff)))},
			&expr.Exthdr{Type: mss, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt, SourceRegister: reg(0)}})
}

func setPriority(from int) rule {
	return rule{&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: reg(from)}}
}
