package gossip

import (
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// record is what a node says about itself. Of two records of one node that with the higher stamp holds. A record with a base
// is a difference: its claims are only those that are new or have another epoch since the base, everything else is whole.
type record struct {
	lb.Member
	stamp
	keys    []uint32 // the IDs of the keys that it holds, sorted
	goodbye bool     // the node's process is about to end, so nobody should look for it

	base    uint64       // the version that this record is the difference to; 0 = it is whole
	dropped []netip.Addr // with a base: what was claimed there and no longer is, sorted
	unknown []byte       // fields of a later version of this package, passed on as they are
}

// stamp orders the records of one node: a restarted process has a higher incarnation, a changed record a higher version.
type stamp struct {
	incarnation, version uint64
}

func (s stamp) newer(o stamp) bool {
	if s.incarnation != o.incarnation {
		return s.incarnation > o.incarnation
	}
	return s.version > o.version
}

// since returns the difference that leads from base, an older record of the same process, to r. Both are whole.
func (r record) since(base record) record {
	d := r
	d.base, d.Claims = base.version, nil
	i, j := 0, 0 // both lists are sorted by address
	for i < len(base.Claims) || j < len(r.Claims) {
		switch {
		case j == len(r.Claims) || i < len(base.Claims) && base.Claims[i].Addr.Less(r.Claims[j].Addr):
			d.dropped = append(d.dropped, base.Claims[i].Addr)
			i++
		case i == len(base.Claims) || r.Claims[j].Addr.Less(base.Claims[i].Addr):
			d.Claims = append(d.Claims, r.Claims[j])
			j++
		default:
			if base.Claims[i] != r.Claims[j] {
				d.Claims = append(d.Claims, r.Claims[j])
			}
			i, j = i+1, j+1
		}
	}
	return d
}

// on applies the difference d to base and reports whether it could: whether d is a difference to exactly that record, and has
// nothing in it that this version does not know.
func (d record) on(base record) (whole record, ok bool) {
	if d.base == 0 || base.base != 0 || base.stamp != (stamp{d.incarnation, d.base}) || len(d.unknown) > 0 {
		return record{}, false
	}
	whole = d
	whole.base, whole.dropped, whole.unknown = 0, nil, base.unknown
	whole.Claims = make([]lb.Claim, 0, len(base.Claims)+len(d.Claims))
	for _, c := range base.Claims {
		_, gone := slices.BinarySearchFunc(d.dropped, c.Addr, netip.Addr.Compare)
		_, changed := slices.BinarySearchFunc(d.Claims, c.Addr, compareClaim)
		if !gone && !changed {
			whole.Claims = append(whole.Claims, c)
		}
	}
	whole.Claims = append(whole.Claims, d.Claims...)
	slices.SortFunc(whole.Claims, func(a, b lb.Claim) int { return a.Addr.Compare(b.Addr) })
	return whole, true
}

func compareClaim(c lb.Claim, a netip.Addr) int { return c.Addr.Compare(a) }

func equal(a, b lb.Member) bool {
	return a.Node == b.Node && a.Draining == b.Draining && a.Ready == b.Ready && a.News == b.News && slices.Equal(a.Claims, b.Claims) &&
		slices.Equal(a.Failing, b.Failing) && slices.Equal(a.Suspects, b.Suspects) && slices.Equal(a.Alive, b.Alive) &&
		slices.EqualFunc(a.Links, b.Links, func(x, y lb.Link) bool {
			return x.Name == y.Name && x.Index == y.Index && x.MAC == y.MAC && x.Up == y.Up && slices.Equal(x.Prefixes, y.Prefixes)
		})
}
