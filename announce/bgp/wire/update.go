package wire

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/lb"
)

// DefaultLocalPref is what internal peers are told where a path has no local preference: RFC 4271 section 5.1.5 wants one.
const DefaultLocalPref = 100

// Encoder makes the UPDATEs of one session out of what its ends have agreed upon.
type Encoder struct {
	MyASN     uint32
	Internal  bool // the peer has our AS number
	FourOctet bool

	// NextHop holds the next hop for each family that the session carries and that can have one. That of IPv4 may be an IPv6
	// address if the peer has said that it takes it.
	NextHop map[lb.Family]netip.Addr
}

// Carries reports whether paths of the family can be told.
func (e Encoder) Carries(f lb.Family) bool { return e.NextHop[f].IsValid() }

// Withdraw returns the UPDATEs that withdraw the prefixes, as few as hold them.
func (e Encoder) Withdraw(gone []netip.Prefix) (out []byte) {
	four, six := split(gone)
	if e.extended() { // what was announced by MP_REACH is withdrawn by MP_UNREACH (RFC 8950 section 4)
		four, six = nil, slices.Concat(four, six)
	}
	for chunk := range slices.Chunk(four, (MaxMessage-updateRoom)/5) {
		out = append(out, serialize(gobgp.NewBGPUpdateMessage(nlri4(chunk), nil, nil))...)
	}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		of := slices.DeleteFunc(slices.Clone(six), func(p netip.Prefix) bool { return lb.FamilyOf(p.Addr()) != f })
		for chunk := range slices.Chunk(of, (MaxMessage-updateRoom-attributeRoom)/17) {
			attr := gobgp.NewPathAttributeMpUnreachNLRI(nlri(chunk))
			out = append(out, serialize(gobgp.NewBGPUpdateMessage(nil, []gobgp.PathAttributeInterface{attr}, nil))...)
		}
	}
	return out
}

// Bytes that an UPDATE needs besides prefixes and attributes, and an attribute with prefixes besides those.
const (
	updateRoom    = headerSize + 4
	attributeRoom = 4 + 4 + 32 + 1
)

// extended reports whether IPv4 has an IPv6 next hop.
func (e Encoder) extended() bool { return e.NextHop[lb.IPv4].Is6() }

func split(all []netip.Prefix) (four, six []netip.Prefix) {
	for _, p := range all {
		if p.Addr().Is4() {
			four = append(four, p)
		} else {
			six = append(six, p)
		}
	}
	return four, six
}

func nlri4(all []netip.Prefix) (out []*gobgp.IPAddrPrefix) {
	for _, p := range all {
		out = append(out, gobgp.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String()))
	}
	return out
}

func nlri(all []netip.Prefix) (out []gobgp.AddrPrefixInterface) {
	for _, p := range all {
		if p.Addr().Is4() {
			out = append(out, gobgp.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String()))
		} else {
			out = append(out, gobgp.NewIPv6AddrPrefix(uint8(p.Bits()), p.Addr().String()))
		}
	}
	return out
}

// Announce returns the UPDATEs that tell the paths: those with the same attributes share messages. Paths of a family that the
// session does not carry are left out.
func (e Encoder) Announce(paths []bgp.Path) (out []byte) {
	groups, order := map[string][]netip.Prefix{}, []bgp.Path{}
	for _, p := range paths {
		f := lb.FamilyOf(p.Prefix.Addr())
		if !e.Carries(f) {
			continue
		}
		key := attributeKey(f, p)
		if groups[key] == nil {
			order = append(order, p)
		}
		groups[key] = append(groups[key], p.Prefix)
	}
	for _, p := range order {
		f := lb.FamilyOf(p.Prefix.Addr())
		out = append(out, e.updates(f, p, groups[attributeKey(f, p)])...)
	}
	return out
}

// attributeKey tells paths with different attributes apart.
func attributeKey(f lb.Family, p bgp.Path) string {
	p.Prefix = netip.Prefix{}
	return fmt.Sprint(f, p.Weight, strings.TrimSpace(p.String()))
}

func (e Encoder) updates(f lb.Family, p bgp.Path, prefixes []netip.Prefix) (out []byte) {
	attrs := e.attributes(p)
	size := 0
	for _, a := range attrs {
		size += a.Len()
	}
	hop := e.NextHop[f]
	if f == lb.IPv4 && hop.Is4() {
		attrs = slices.Insert(attrs, 2, gobgp.PathAttributeInterface(gobgp.NewPathAttributeNextHop(hop.String())))
		for chunk := range slices.Chunk(prefixes, (MaxMessage-updateRoom-size-7)/5) {
			out = append(out, serialize(gobgp.NewBGPUpdateMessage(nil, attrs, nlri4(chunk)))...)
		}
		return out
	}
	for chunk := range slices.Chunk(prefixes, (MaxMessage-updateRoom-size-attributeRoom)/17) {
		reach := gobgp.NewPathAttributeMpReachNLRI(hop.WithZone("").String(), nlri(chunk)) // first, as RFC 7606 section 5.1 asks
		out = append(out, serialize(gobgp.NewBGPUpdateMessage(nil, append([]gobgp.PathAttributeInterface{reach}, attrs...), nil))...)
	}
	return out
}

// attributes returns the attributes of a path in the order of their types, without its next hop.
func (e Encoder) attributes(p bgp.Path) []gobgp.PathAttributeInterface {
	path, path4 := e.asPath(p.Prepend)
	out := []gobgp.PathAttributeInterface{gobgp.NewPathAttributeOrigin(gobgp.BGP_ORIGIN_ATTR_TYPE_IGP), path}
	if p.MED != nil {
		out = append(out, gobgp.NewPathAttributeMultiExitDisc(*p.MED))
	}
	if e.Internal {
		pref := p.LocalPref
		if pref == 0 {
			pref = DefaultLocalPref
		}
		out = append(out, gobgp.NewPathAttributeLocalPref(pref))
	}
	if len(p.Communities) > 0 {
		out = append(out, gobgp.NewPathAttributeCommunities(p.Communities))
	}
	if p.Weight > 0 {
		bandwidth := gobgp.NewLinkBandwidthExtended(short(e.MyASN), p.Weight)
		out = append(out, gobgp.NewPathAttributeExtendedCommunities([]gobgp.ExtendedCommunityInterface{bandwidth}))
	}
	if path4 != nil {
		out = append(out, path4)
	}
	if len(p.Large) > 0 {
		var all []*gobgp.LargeCommunity
		for _, c := range p.Large {
			all = append(all, gobgp.NewLargeCommunity(c.Global, c.Local1, c.Local2))
		}
		out = append(out, gobgp.NewPathAttributeLargeCommunities(all))
	}
	return out
}

// asPath returns AS_PATH, and AS4_PATH where a peer of two-byte AS numbers needs it (RFC 6793 section 4.2.2).
func (e Encoder) asPath(prepend uint8) (path, path4 gobgp.PathAttributeInterface) {
	if e.Internal {
		return gobgp.NewPathAttributeAsPath(nil), nil
	}
	times := min(int(prepend)+1, 255) // a segment holds no more
	four := gobgp.NewAs4PathParam(gobgp.BGP_ASPATH_ATTR_TYPE_SEQ, slices.Repeat([]uint32{e.MyASN}, times))
	if e.FourOctet {
		return gobgp.NewPathAttributeAsPath([]gobgp.AsPathParamInterface{four}), nil
	}
	two := gobgp.NewAsPathParam(gobgp.BGP_ASPATH_ATTR_TYPE_SEQ, slices.Repeat([]uint16{short(e.MyASN)}, times))
	path = gobgp.NewPathAttributeAsPath([]gobgp.AsPathParamInterface{two})
	if e.MyASN > 0xffff {
		path4 = gobgp.NewPathAttributeAs4Path([]*gobgp.As4PathParam{four})
	}
	return path, path4
}

// EndOfRIB returns the marker that everything of the family has been told (RFC 4724 section 2).
func EndOfRIB(f lb.Family) []byte { return serialize(gobgp.NewEndOfRib(rf(f))) }
