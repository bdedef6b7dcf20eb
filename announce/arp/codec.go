package arp

import (
	"net/netip"

	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/lb"
)

// New returns a responder for IPv4 addresses that owns nothing.
func New(o neighbour.Options) (*neighbour.Responder, error) { return neighbour.New("arp", Codec{}, o) }

// Codec implements neighbour.Codec.
type Codec struct{}

// Serves implements neighbour.Codec.
func (Codec) Serves(addr netip.Addr) bool { return addr.Is4() }

// Listen implements neighbour.Codec.
func (Codec) Listen(l lb.Link) (neighbour.Wire, error) {
	s, err := neighbour.Open(l, etherTypeARP)
	if err != nil {
		return nil, err
	}
	return wire{s}, nil
}

// wire needs no groups: questions are broadcast.
type wire struct{ *neighbour.Socket }

// Join implements neighbour.Wire.
func (wire) Join(netip.Addr) error { return nil }

// Leave implements neighbour.Wire.
func (wire) Leave(netip.Addr) error { return nil }

// Judge implements neighbour.Codec.
func (Codec) Judge(frame []byte, owned neighbour.Owned, mac lb.MAC, reply []byte) neighbour.Verdict {
	p, err := Parse(frame)
	if err != nil {
		return neighbour.Verdict{}
	}
	v := neighbour.Verdict{Asks: p.Op == Request, Claim: Claimed(p, mac)}
	if answer, drop := Answer(p, owned, mac); drop == "" {
		v.Reply = answer.Append(reply)
	}
	return v
}

// Announcement implements neighbour.Codec.
func (Codec) Announcement(addr netip.Addr, mac lb.MAC) [][]byte {
	var out [][]byte
	for _, p := range Gratuitous(addr, mac) {
		out = append(out, p.Append(nil))
	}
	return out
}

// Probe implements neighbour.Codec.
func (Codec) Probe(addr netip.Addr, mac lb.MAC) []byte { return Probe(addr, mac).Append(nil) }
