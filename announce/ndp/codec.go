package ndp

import (
	"crypto/rand"
	"net/netip"

	"golang.org/x/net/bpf"

	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/lb"
)

// New returns a responder for IPv6 addresses that owns nothing.
func New(o neighbour.Options) (*neighbour.Responder, error) {
	return neighbour.New("ndp", NewCodec(), o)
}

// Codec implements neighbour.Codec.
type Codec struct {
	nonce [6]byte // in our probes
}

// NewCodec returns a Codec with a nonce of its own.
func NewCodec() Codec {
	var c Codec
	_, _ = rand.Read(c.nonce[:]) // never fails
	return c
}

// Serves implements neighbour.Codec. Link-local addresses mean something else on every link: nobody can be told of one, and a
// Service with one is not announced.
func (Codec) Serves(addr netip.Addr) bool {
	return addr.Is6() && !addr.Is4In6() && !addr.IsLinkLocalUnicast()
}

// Listen implements neighbour.Codec.
func (Codec) Listen(l lb.Link) (neighbour.Wire, error) {
	s, err := neighbour.Open(l, etherTypeIPv6, filter()...)
	if err != nil {
		return nil, err
	}
	return &wire{Socket: s, groups: newGroups(func() (memberSocket, error) { return openMember(l.Index) })}, nil
}

// filter keeps all but solicitations and advertisements from the socket, so that the node's other traffic costs nothing.
func filter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: ethernetLen + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoICMPv6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: headersLen, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: uint32(Solicitation), SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(Advertisement), SkipTrue: 1},
	}
}

type wire struct {
	*neighbour.Socket
	*groups
}

// Close implements neighbour.Wire; the memberships end with it.
func (w *wire) Close() error {
	w.groups.close()
	return w.Socket.Close()
}

// Judge implements neighbour.Codec.
func (c Codec) Judge(frame []byte, owned neighbour.Owned, mac lb.MAC, reply []byte) neighbour.Verdict {
	p, err := Parse(frame)
	if err != nil {
		return neighbour.Verdict{}
	}
	v := neighbour.Verdict{Asks: p.Type == Solicitation, Claim: Claimed(p, mac, c.nonce)}
	if answer, drop := Answer(p, owned, mac); drop == "" {
		v.Reply = answer.Append(reply)
	}
	return v
}

// Announcement implements neighbour.Codec.
func (Codec) Announcement(addr netip.Addr, mac lb.MAC) [][]byte {
	return [][]byte{Unsolicited(addr, mac).Append(nil)}
}

// Probe implements neighbour.Codec.
func (c Codec) Probe(addr netip.Addr, mac lb.MAC) []byte {
	return Probe(addr, mac, c.nonce).Append(nil)
}
