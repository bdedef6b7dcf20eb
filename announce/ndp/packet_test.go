package ndp

import (
	"encoding/binary"
	"net/netip"
	"testing"

	peer "github.com/mdlayher/ndp"

	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/lb"
)

var (
	vip    = netip.MustParseAddr("2001:db8::c8")
	other  = netip.MustParseAddr("2001:db8::c9")
	client = netip.MustParseAddr("2001:db8::64")

	ours    = lb.MAC{2, 0, 0, 0, 0, 1}
	theirs  = lb.MAC{2, 0, 0, 0, 0, 2}
	station = lb.MAC{2, 0, 0, 0, 0, 0x64}
	allMAC  = lb.MAC{0x33, 0x33, 0, 0, 0, 1}

	nonce = [6]byte{1, 2, 3, 4, 5, 6}
)

func solicit(change ...func(*Packet)) Packet {
	p := Packet{EthDst: lb.MAC{0x33, 0x33, 0xff, 0, 0, 0xc8}, EthSrc: station, Src: client, Dst: netip.MustParseAddr("ff02::1:ff00:c8"),
		Type: Solicitation, Target: vip, LinkAddr: station, HasLinkAddr: true}
	for _, c := range change {
		c(&p)
	}
	return p
}

func unicast(p *Packet) { p.EthDst, p.Dst = ours, vip }
func bare(p *Packet)    { p.LinkAddr, p.HasLinkAddr = lb.MAC{}, false }

func TestAnswer(t *testing.T) {
	answer := Packet{EthDst: station, EthSrc: ours, Src: vip, Dst: client, Type: Advertisement, Solicited: true, Override: true, Target: vip, LinkAddr: ours, HasLinkAddr: true}
	toAll := Packet{EthDst: allMAC, EthSrc: ours, Src: vip, Dst: netip.MustParseAddr("ff02::1"), Type: Advertisement, Override: true, Target: vip, LinkAddr: ours, HasLinkAddr: true}
	tests := []struct {
		name string
		p    Packet
		want Packet
		drop Drop
	}{
		{name: "to the solicited-node group", p: solicit(), want: answer},
		{name: "to all nodes", p: solicit(func(p *Packet) { p.EthDst, p.Dst = allMAC, AllNodes() }), want: answer},
		{name: "unicast, as neighbour unreachability detection asks", p: solicit(unicast), want: answer},
		{name: "unicast without the sender's link-layer address", p: solicit(unicast, bare), want: answer},
		{name: "to the group in a frame of our own", p: solicit(func(p *Packet) { p.EthDst = ours }), want: answer},
		{name: "duplicate address detection", p: Probe(vip, station, nonce), want: toAll},
		{name: "another address", p: solicit(func(p *Packet) { p.Target = other }), drop: DropNotOwned},
		{name: "an advertisement", p: Unsolicited(vip, theirs), drop: DropNotSolicitation},
		{name: "our own", p: solicit(func(p *Packet) { p.EthSrc, p.LinkAddr = ours, ours }), drop: DropOwn},
		{name: "our own, repeated by a switch", p: solicit(func(p *Packet) { p.LinkAddr = ours }), drop: DropOwn},
		{name: "unicast frame for somebody else", p: solicit(unicast, func(p *Packet) { p.EthDst = theirs }), drop: DropNotAddressed},
		{name: "to a group of another address", p: solicit(func(p *Packet) { p.Dst, p.EthDst = SolicitedNode(other), groupMAC(SolicitedNode(other)) }), drop: DropNotAddressed},
		{name: "to another group's hardware address", p: solicit(func(p *Packet) { p.EthDst = allMAC }), drop: DropNotAddressed},
		{name: "sender is a group", p: solicit(func(p *Packet) { p.LinkAddr = allMAC }), drop: DropBadSender},
		{name: "sender is nobody", p: solicit(bare, func(p *Packet) { p.EthSrc = lb.MAC{} }), drop: DropBadSender},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, drop := Answer(tt.p, neighbour.Owned{vip: {}}, ours)
			if got != tt.want || drop != tt.drop {
				t.Errorf("Answer(%s) = %s, %q; want %s, %q", tt.p, got, drop, tt.want, tt.drop)
			}
			if p, err := Parse(tt.p.Append(nil)); err != nil || p != tt.p {
				t.Errorf("the question was read as %s, %v", p, err)
			}
		})
	}
}

func TestClaimed(t *testing.T) {
	tests := []struct {
		name string
		p    Packet
		want neighbour.Claim
	}{
		{"advertisement by another", Unsolicited(vip, theirs), neighbour.Claim{Addr: vip, MAC: theirs}},
		{"without its link-layer address", func() Packet { p := Unsolicited(vip, theirs); bare(&p); return p }(), neighbour.Claim{Addr: vip, MAC: theirs}},
		{"ours", Unsolicited(vip, ours), neighbour.Claim{}},
		{"by a switch in our name", func() Packet { p := Unsolicited(vip, ours); p.EthSrc = theirs; return p }(), neighbour.Claim{}},
		{"probe by another", Probe(vip, theirs, [6]byte{9}), neighbour.Claim{Addr: vip, MAC: theirs, Probe: true}},
		{"probe without nonce", func() Packet { p := Probe(vip, theirs, nonce); p.Nonce, p.HasNonce = [6]byte{}, false; return p }(), neighbour.Claim{Addr: vip, MAC: theirs, Probe: true}},
		{"our probe, back through something that changed its sender", Probe(vip, theirs, nonce), neighbour.Claim{}},
		{"a question is a claim to the sender's address", solicit(), neighbour.Claim{Addr: client, MAC: station}},
	}
	for _, tt := range tests {
		if got := Claimed(tt.p, ours, nonce); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// again gives a frame that was tampered with the right checksum.
func again(frame []byte) []byte {
	ip := frame[ethernetLen:]
	message := ip[ipv6Len:]
	copy(message[2:], []byte{0, 0})
	binary.BigEndian.PutUint16(message[2:], checksum(ip[8:40], message))
	return frame
}

func TestParseRefusesWhatRFC4861HasAHostDiscard(t *testing.T) {
	const message = headersLen
	frame := func(p Packet, change func(b []byte) []byte) []byte { return again(change(p.Append(nil))) }
	set := func(at int, value ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], value); return b }
	}
	option := func(bytes ...byte) func([]byte) []byte {
		return func(b []byte) []byte {
			b = append(b, bytes...)
			b[ethernetLen+5] += byte(len(bytes))
			return b
		}
	}
	multicast := AllNodes().As16()
	tests := []struct {
		name  string
		frame []byte
		want  error
	}{
		{"empty", nil, errNotNDP},
		{"IPv4", frame(solicit(), set(12, 8, 0)), errNotNDP},
		{"version", frame(solicit(), set(ethernetLen, 0x40)), errNotNDP},
		{"UDP", frame(solicit(), set(ethernetLen+6, 17)), errNotNDP},
		{"router advertisement", frame(solicit(), set(message, 134)), errNotNDP},
		{"longer than the frame", frame(solicit(), set(ethernetLen+4, 1)), errNotNDP},
		{"too short", frame(solicit(), set(ethernetLen+4, 0, 23)), errNotNDP},
		{"has passed a router", frame(solicit(), set(ethernetLen+7, 254)), errMalformed},
		{"code", frame(solicit(), set(message+1, 1)), errMalformed},
		{"target is a group", frame(solicit(), set(message+8, multicast[:]...)), errMalformed},
		{"source is a group", frame(solicit(), set(ethernetLen+8, multicast[:]...)), errMalformed},
		{"solicited advertisement to a group", frame(Unsolicited(vip, theirs), set(message+4, flagSolicited)), errMalformed},
		{"advertisement by nobody", frame(Unsolicited(vip, theirs), set(ethernetLen+8, make([]byte, 16)...)), errMalformed},
		{"probe to all nodes", frame(Probe(vip, theirs, nonce), set(ethernetLen+24, multicast[:]...)), errMalformed},
		{"probe that tells its sender", frame(Probe(vip, theirs, nonce), option(optionSource, 1, 2, 0, 0, 0, 0, 2)), errMalformed},
		{"option of no length", frame(solicit(), option(99, 0, 0, 0, 0, 0, 0, 0)), errMalformed},
		{"option beyond the end", frame(solicit(), option(99, 2, 0, 0, 0, 0, 0, 0)), errMalformed},
		{"half an option", frame(solicit(), option(99, 1, 0, 0)), errMalformed},
		{"link-layer address that is not Ethernet's", frame(solicit(), option(append([]byte{optionSource, 2}, make([]byte, 14)...)...)), errMalformed},
		{"checksum", set(message+2, 0xab, 0xcd)(solicit().Append(nil)), errChecksum},
		{"unknown option", frame(solicit(), option(99, 1, 0, 0, 0, 0, 0, 0)), nil},
		{"option of the other message", frame(solicit(), option(optionTarget, 1, 9, 9, 9, 9, 9, 9)), nil},
		{"padding", append(solicit().Append(nil), 0, 0, 0), nil},
	}
	for _, tt := range tests {
		p, err := Parse(tt.frame)
		if err != tt.want || err == nil && p != solicit() {
			t.Errorf("%s: %s, %v; want %v", tt.name, p, err, tt.want)
		}
	}
}

// TestFramesAreThoseOfAnotherImplementation compares with github.com/mdlayher/ndp.
func TestFramesAreThoseOfAnotherImplementation(t *testing.T) {
	address := &peer.LinkLayerAddress{Direction: peer.Source, Addr: station[:]}
	own := &peer.LinkLayerAddress{Direction: peer.Target, Addr: ours[:]}
	n := peer.NewNonce()
	marshalled, err := peer.MarshalMessage(&peer.NeighborSolicitation{TargetAddress: vip, Options: []peer.Option{n}})
	if err != nil {
		t.Fatal(err)
	}
	probe := Probe(vip, ours, [6]byte(marshalled[messageLen+2:]))
	answer, _ := Answer(solicit(), neighbour.Owned{vip: {}}, ours)
	tests := []struct {
		p    Packet
		want peer.Message
	}{
		{solicit(), &peer.NeighborSolicitation{TargetAddress: vip, Options: []peer.Option{address}}},
		{answer, &peer.NeighborAdvertisement{Solicited: true, Override: true, TargetAddress: vip, Options: []peer.Option{own}}},
		{Unsolicited(vip, ours), &peer.NeighborAdvertisement{Override: true, TargetAddress: vip, Options: []peer.Option{own}}},
		{probe, &peer.NeighborSolicitation{TargetAddress: vip, Options: []peer.Option{n}}},
	}
	for _, tt := range tests {
		want, err := peer.MarshalMessageChecksum(tt.want, tt.p.Src, tt.p.Dst)
		if err != nil {
			t.Fatal(err)
		}
		frame := tt.p.Append(nil)
		if got := frame[headersLen:]; string(got) != string(want) {
			t.Errorf("%s:\n got %x\nwant %x", tt.p, got, want)
		}
		if back, err := Parse(frame); err != nil || back != tt.p {
			t.Errorf("Parse = %s, %v; want %s", back, err, tt.p)
		}
	}
}

func FuzzParseAndAnswer(f *testing.F) {
	for _, p := range []Packet{solicit(), solicit(unicast, bare), Probe(vip, theirs, nonce), Unsolicited(vip, ours), Unsolicited(vip, theirs)} {
		f.Add(p.Append(nil))
	}
	f.Add([]byte{})
	f.Add(make([]byte, 128))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) >= headersLen+messageLen { // a fuzzer does not guess checksums
			if n := int(binary.BigEndian.Uint16(frame[ethernetLen+4:])); n >= messageLen && headersLen+n <= len(frame) {
				frame = append(again(append([]byte(nil), frame[:headersLen+n]...)), frame[headersLen+n:]...)
			}
		}
		p, err := Parse(frame)
		if err != nil {
			return
		}
		if again, err := Parse(p.Append(nil)); err != nil || again != p {
			t.Errorf("%x was read as %s, written, and read as %s, %v", frame, p, again, err)
		}
		reply, drop := Answer(p, neighbour.Owned{vip: {}}, ours)
		if drop == "" && (p.Target != vip || reply.Src != vip || reply.LinkAddr != ours || reply.Solicited == p.Src.IsUnspecified()) {
			t.Errorf("%s was answered with %s", p, reply)
		}
		if c := Claimed(p, ours, nonce); c.Addr.IsValid() && c.MAC == ours {
			t.Errorf("%s is a claim of our own", p)
		}
	})
}

// BenchmarkNotOurs is the cost of a packet for an address that this node does not announce.
func BenchmarkNotOurs(b *testing.B) {
	owned := neighbour.Owned{}
	for i := range 10000 {
		owned[netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 9: 1, 14: byte(i >> 8), 15: byte(i)})] = struct{}{}
	}
	c, frame, reply := NewCodec(), solicit().Append(nil), make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		if v := c.Judge(frame, owned, ours, reply); v.Reply != nil || v.Claim.Addr != client {
			b.Fatal(v)
		}
	}
}
