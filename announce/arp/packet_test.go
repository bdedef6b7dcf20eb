package arp

import (
	"net/netip"
	"testing"

	peer "github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/lb"
)

var (
	vip    = netip.MustParseAddr("192.0.2.200")
	other  = netip.MustParseAddr("192.0.2.201")
	client = netip.MustParseAddr("192.0.2.100")
	zero   = netip.MustParseAddr("0.0.0.0")

	ours    = lb.MAC{2, 0, 0, 0, 0, 1}
	theirs  = lb.MAC{2, 0, 0, 0, 0, 2}
	nobody  = lb.MAC{}
	station = lb.MAC{2, 0, 0, 0, 0, 0x64}
)

func request(change ...func(*Packet)) Packet {
	p := Packet{EthDst: Broadcast(), EthSrc: station, Op: Request, SenderMAC: station, SenderIP: client, TargetIP: vip}
	for _, c := range change {
		c(&p)
	}
	return p
}

func TestAnswer(t *testing.T) {
	reply := Packet{EthDst: station, EthSrc: ours, Op: Reply, SenderMAC: ours, SenderIP: vip, TargetMAC: station, TargetIP: client}
	probe := reply
	probe.TargetIP = zero
	tests := []struct {
		name string
		p    Packet
		want Packet
		drop Drop
	}{
		{name: "broadcast", p: request(), want: reply},
		{name: "unicast to us", p: request(func(p *Packet) { p.EthDst = ours }), want: reply},
		{name: "probe of a host that wants our address", p: request(func(p *Packet) { p.SenderIP = zero }), want: probe},
		{name: "unicast to somebody else", p: request(func(p *Packet) { p.EthDst = theirs }), drop: DropNotAddressed},
		{name: "other address", p: request(func(p *Packet) { p.TargetIP = other }), drop: DropNotOwned},
		{name: "reply", p: request(func(p *Packet) { p.Op = Reply }), drop: DropNotRequest},
		{name: "unknown operation", p: request(func(p *Packet) { p.Op = 9 }), drop: DropNotRequest},
		{name: "our own request", p: request(func(p *Packet) { p.SenderMAC = ours }), drop: DropOwn},
		{name: "announcement by another", p: request(func(p *Packet) { p.SenderIP = vip }), drop: DropAnnouncement},
		{name: "group address as sender", p: request(func(p *Packet) { p.SenderMAC = Broadcast() }), drop: DropBadSender},
		{name: "no sender", p: request(func(p *Packet) { p.SenderMAC = nobody }), drop: DropBadSender},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, drop := Answer(tt.p, neighbour.Owned{vip: {}}, ours)
			if got != tt.want || drop != tt.drop {
				t.Errorf("Answer(%s) = %s, %q; want %s, %q", tt.p, got, drop, tt.want, tt.drop)
			}
		})
	}
	if _, drop := Answer(request(), nil, ours); drop != DropNotOwned {
		t.Errorf("owning nothing: %q", drop)
	}
}

func TestClaimed(t *testing.T) {
	tests := []struct {
		name string
		p    Packet
		want neighbour.Claim
	}{
		{"announcement by another", Gratuitous(vip, theirs)[0], neighbour.Claim{Addr: vip, MAC: theirs}},
		{"reply form", Gratuitous(vip, theirs)[1], neighbour.Claim{Addr: vip, MAC: theirs}},
		{"answer to a probe", Packet{EthDst: ours, EthSrc: theirs, Op: Reply, SenderMAC: theirs, SenderIP: vip, TargetMAC: ours, TargetIP: zero}, neighbour.Claim{Addr: vip, MAC: theirs}},
		{"ours", Gratuitous(vip, ours)[0], neighbour.Claim{}},
		{"ours, repeated by a switch", request(func(p *Packet) { p.SenderMAC = ours }), neighbour.Claim{}},
		{"probe by another", Probe(vip, theirs), neighbour.Claim{Addr: vip, MAC: theirs, Probe: true}},
		{"our probe", Probe(vip, ours), neighbour.Claim{}},
		{"a reply of nobody", request(func(p *Packet) { p.Op, p.SenderIP = Reply, zero }), neighbour.Claim{}},
		{"a question is a claim to the sender's address", request(), neighbour.Claim{Addr: client, MAC: station}},
	}
	for _, tt := range tests {
		if got := Claimed(tt.p, ours); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestGratuitousForms holds the packets to the two forms that Linux accepts within its locktime.
func TestGratuitousForms(t *testing.T) {
	for i, p := range Gratuitous(vip, ours) {
		if p.SenderIP != p.TargetIP || p.SenderIP != vip || p.SenderMAC != ours || p.EthSrc != ours || p.EthDst != Broadcast() {
			t.Errorf("form %d: %+v", i, p)
		}
	}
	if r := Gratuitous(vip, ours)[1]; r.Op != Reply || r.TargetMAC != r.SenderMAC {
		t.Errorf("a reply counts as gratuitous only with THA = SHA: %+v", r)
	}
}

// TestFramesAreThoseOfAnotherImplementation compares with github.com/mdlayher/arp.
func TestFramesAreThoseOfAnotherImplementation(t *testing.T) {
	for _, p := range []Packet{request(), Probe(vip, ours), Gratuitous(vip, ours)[0], Gratuitous(vip, ours)[1]} {
		q, err := peer.NewPacket(peer.Operation(p.Op), p.SenderMAC[:], p.SenderIP, p.TargetMAC[:], p.TargetIP)
		if err != nil {
			t.Fatal(err)
		}
		payload, _ := q.MarshalBinary()
		want, err := (&ethernet.Frame{Destination: p.EthDst[:], Source: p.EthSrc[:], EtherType: ethernet.EtherTypeARP, Payload: payload}).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Append(nil); string(got) != string(want[:len(got)]) {
			t.Errorf("%s:\n got %x\nwant %x", p, got, want)
		}
		if back, err := Parse(want); err != nil || back != p {
			t.Errorf("Parse = %s, %v; want %s", back, err, p)
		}
	}
}

func FuzzParseAndAnswer(f *testing.F) {
	for _, p := range []Packet{request(), Probe(vip, theirs), Gratuitous(vip, ours)[0], Gratuitous(vip, theirs)[1]} {
		f.Add(p.Append(nil))
	}
	f.Add([]byte{})
	f.Add(make([]byte, 60))
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, err := Parse(frame)
		if err != nil {
			return
		}
		if again := p.Append(nil); string(again) != string(frame[:frameLen]) {
			t.Errorf("%x was read as %s and written as %x", frame, p, again)
		}
		reply, drop := Answer(p, neighbour.Owned{vip: {}}, ours)
		if drop == "" && (p.TargetIP != vip || reply.SenderIP != vip || reply.SenderMAC != ours || reply.EthDst != p.SenderMAC) {
			t.Errorf("%s was answered with %s", p, reply)
		}
		if c := Claimed(p, ours); c.Addr.IsValid() && c.MAC == ours {
			t.Errorf("%s is a claim of our own", p)
		}
	})
}

// BenchmarkNotOurs is the cost of a packet for an address that this node does not announce.
func BenchmarkNotOurs(b *testing.B) {
	owned := neighbour.Owned{}
	for i := range 10000 {
		owned[netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})] = struct{}{}
	}
	frame, reply := request().Append(nil), make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		if v := (Codec{}).Judge(frame, owned, ours, reply); v.Reply != nil || v.Claim.Addr != client {
			b.Fatal(v)
		}
	}
}
