package wire

import (
	"encoding/binary"
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// Update is what an UPDATE of the peer says of prefixes, in the order in which it counts: a prefix may be withdrawn and
// announced in one message.
type Update struct {
	Withdrawn, Announced []netip.Prefix
}

// Attributes that hold prefixes (RFC 4760).
const (
	mpReach   = 14
	mpUnreach = 15
	extLength = 0x10 // the attribute's flag
)

// ParseUpdate takes the body of an UPDATE of at least four bytes, as [Read] ensures. An error is a [Notification]: the prefixes
// cannot be found, and RFC 7606 sections 3 and 5 have the session end.
func ParseUpdate(body []byte) (u Update, err error) {
	withdrawn, rest, ok := cut(body)
	if !ok {
		return u, Notification{Code: UpdateError, Subcode: MalformedList}
	}
	attrs, announced, ok := cut(rest)
	if !ok {
		return u, Notification{Code: UpdateError, Subcode: MalformedList}
	}
	if u.Withdrawn, ok = prefixes(lb.IPv4, withdrawn); !ok {
		return Update{}, Notification{Code: UpdateError, Subcode: InvalidNetwork}
	}
	if u.Announced, ok = prefixes(lb.IPv4, announced); !ok {
		return Update{}, Notification{Code: UpdateError, Subcode: InvalidNetwork}
	}
	return u, u.attributes(attrs)
}

// cut takes a field off the front whose length stands before it in two bytes.
func cut(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// attributes walks through the attributes for those with prefixes. One whose length is wrong ends the walk: what follows cannot
// be told apart, and an update without readable attributes counts as withdrawn, which for us is the same (RFC 7606 section 4).
func (u *Update) attributes(b []byte) error {
	seen := map[byte]bool{}
	for len(b) >= 3 {
		flags, kind := b[0], b[1]
		head, size := 3, int(b[2])
		if flags&extLength != 0 {
			if len(b) < 4 {
				return nil
			}
			head, size = 4, int(binary.BigEndian.Uint16(b[2:]))
		}
		if len(b) < head+size {
			return nil
		}
		if kind == mpReach || kind == mpUnreach {
			if seen[kind] {
				return Notification{Code: UpdateError, Subcode: MalformedList}
			}
			seen[kind] = true
			if !u.multi(kind, b[head:head+size]) {
				return Notification{Code: UpdateError, Subcode: OptionalError}
			}
		}
		b = b[head+size:]
	}
	return nil
}

// multi reads MP_REACH_NLRI or MP_UNREACH_NLRI and reports whether that was possible. Other families than unicast are not read.
func (u *Update) multi(kind byte, b []byte) bool {
	if len(b) < 3 {
		return false
	}
	afi, safi := binary.BigEndian.Uint16(b), b[2]
	b = b[3:]
	if kind == mpReach {
		if len(b) < 1 || len(b) < 2+int(b[0]) {
			return false
		}
		b = b[2+int(b[0]):] // the next hop, and a reserved byte
	}
	family := map[uint16]lb.Family{1: lb.IPv4, 2: lb.IPv6}[afi]
	if family == 0 || safi != 1 {
		return true
	}
	all, ok := prefixes(family, b)
	if kind == mpReach {
		u.Announced = append(u.Announced, all...)
	} else {
		u.Withdrawn = append(u.Withdrawn, all...)
	}
	return ok
}

// prefixes reads a list of prefixes, each its length in bits and as many bytes as hold these.
func prefixes(f lb.Family, b []byte) (out []netip.Prefix, ok bool) {
	width := map[lb.Family]int{lb.IPv4: 4, lb.IPv6: 16}[f]
	for len(b) > 0 {
		bits := int(b[0])
		size := (bits + 7) / 8
		if bits > width*8 || len(b) < 1+size {
			return nil, false
		}
		var raw [16]byte
		copy(raw[:], b[1:1+size])
		addr, _ := netip.AddrFromSlice(raw[:width]) // of a right size
		out = append(out, netip.PrefixFrom(addr, bits).Masked())
		b = b[1+size:]
	}
	return out, true
}

// ParseRefresh takes the body of a ROUTE-REFRESH of at least four bytes, as [Read] ensures, and returns the family of which the
// peer wants to hear everything again, or 0 if it is none of ours or the message does not ask for that (RFC 2918, RFC 7313).
func ParseRefresh(body []byte) lb.Family {
	if body[2] != 0 || body[3] != 1 {
		return 0
	}
	return map[uint16]lb.Family{1: lb.IPv4, 2: lb.IPv6}[binary.BigEndian.Uint16(body)]
}
