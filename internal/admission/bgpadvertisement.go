package admission

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/fairlead-lb/fairlead/lb"
)

func writeBGPAdvertisement(d *Decision, old *Advertisement, now Advertisement, f Facts) {
	var earlier object
	if old != nil {
		earlier = old.Object
	}
	if !begin(d, f, earlier, now.Object, old != nil && reflect.DeepEqual(old.Object.Spec, now.Object.Spec)) {
		return
	}
	known(d, now, f)
	narrow(d, old, now, f)
	for _, other := range f.BGP.Advertisements {
		name, value := contradiction(now.Parsed, other.Parsed, f)
		if name == "" || other.Object.Name == now.Object.Name {
			continue
		}
		err := field.Invalid(field.NewPath("spec", name), value, fmt.Sprintf("BGPAdvertisement %q announces prefixes of the same length to the same peer from the same node with another value, and a prefix can have one: give both the same, or set them apart by peers, pools or nodeSelectors", other.Object.Name))
		if old != nil {
			if was, _ := contradiction(old.Parsed, other.Parsed, f); was == name {
				d.warn(lb.AdvertisementConflict, "wrong as before: %v", err)
				continue
			}
		}
		d.refuse(lb.AdvertisementConflict, err)
	}
}

// known warns of names that there are not.
func known(d *Decision, now Advertisement, f Facts) {
	spec, path := &now.Object.Spec, field.NewPath("spec")
	unknownPools(d, spec.IPAddressPools, f)
	for i, name := range spec.Peers {
		if !slices.ContainsFunc(f.BGP.Peers, func(p Peer) bool { return p.Object.Name == name }) {
			d.warn(lb.NoPeer, "%s is %q, but there is no such BGPPeer in namespace %q: nobody is told for that name until there is; create it or correct the name",
				path.Child("peers").Index(i), name, f.Namespace)
		}
	}
	for i, name := range spec.Communities {
		if !strings.Contains(name, ":") && !f.BGP.named(name) {
			d.warn(lb.UnknownCommunity, "%s is %q, but no Community object in namespace %q has that name: the paths go without it until one does; define it or correct the name",
				path.Child("communities").Index(i), name, f.Namespace)
		}
	}
}

// narrow refuses prefixes that stand for more than a pool holds.
func narrow(d *Decision, old *Advertisement, now Advertisement, f Facts) {
	wide, before := tooWide(now.Parsed, f.Pools), map[string]*field.Error{}
	if old != nil {
		before = tooWide(old.Parsed, f.Pools)
	}
	for _, p := range f.Pools { // in their order
		switch err := wide[p.Name]; {
		case err != nil && before[p.Name] != nil:
			d.warn(lb.InvalidSpec, "wrong as before: %v", err)
		case err != nil:
			d.refuse(lb.InvalidSpec, err)
		}
	}
}

// named reports whether a Community object has the name.
func (b BGP) named(name string) bool {
	for _, c := range b.Communities {
		for _, a := range c.Spec.Communities {
			if a.Name == name {
				return true
			}
		}
	}
	return false
}

// tooWide returns, by pool, why the prefixes that a announces would stand for more than the pool holds. As with MetalLB a prefix may
// be as long as the largest block of each entry.
func tooWide(a lb.BGPAdvertisement, pools []lb.Pool) map[string]*field.Error {
	out := map[string]*field.Error{}
	for _, p := range pools {
		if !a.Covers(p, lb.Service{Labels: map[string]string{}}) || len(a.ServiceSelectors) > 0 {
			continue
		}
		for _, r := range p.Ranges {
			name, length := "aggregationLengthV6", a.LengthV6
			if r.From.Is4() {
				name, length = "aggregationLength", a.Length
			}
			if least := largestBlock(r).Bits(); length < least {
				out[p.Name] = field.Invalid(field.NewPath("spec", name), length, fmt.Sprintf(
					"the prefixes would stand for addresses that IPAddressPool %q does not hold, whose entry %s has no block larger than a /%d; use %d or more, or leave that pool out", p.Name, text(r), least, least))
				break
			}
		}
	}
	return out
}

// outgrown warns of advertisements whose prefixes stand for more than the pool holds from now on.
func outgrown(d *Decision, old, now lb.Pool, f Facts) {
	for _, a := range f.BGP.Advertisements {
		err, was := tooWide(a.Parsed, []lb.Pool{now})[now.Name], tooWide(a.Parsed, []lb.Pool{old})[old.Name]
		if err != nil && was == nil {
			d.warn(lb.InvalidSpec, "BGPAdvertisement %q: %v", a.Object.Name, err)
		}
	}
}

// largestBlock returns the shortest prefix that lies in r.
func largestBlock(r lb.Range) netip.Prefix {
	for bits := range r.From.BitLen() {
		p := netip.PrefixFrom(r.From, bits).Masked()
		if p.Addr() != r.From { // the block that begins after the one which From is inside of
			next := lastOf(p).Next()
			if !next.IsValid() {
				continue
			}
			p = netip.PrefixFrom(next, bits)
		}
		if lastOf(p).Compare(r.To) <= 0 {
			return p
		}
	}
	return netip.PrefixFrom(r.From, r.From.BitLen())
}

// lastOf returns the highest address of a masked prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

// contradiction names the field for which both want different values of a prefix that they may both announce, and the value of a.
// Which Services they select is not looked at: with selectors the answer changes with every Service.
func contradiction(a, b lb.BGPAdvertisement, f Facts) (name string, value any) {
	if len(a.ServiceSelectors)+len(b.ServiceSelectors) > 0 || !shareAPrefix(a, b, f.Pools) || !shareAPeer(a, b, f) {
		return "", nil
	}
	med := func(m *uint32) string {
		if m == nil {
			return "none"
		}
		return fmt.Sprint(*m)
	}
	switch {
	case a.LocalPref != b.LocalPref:
		return "localPref", a.LocalPref
	case med(a.MED) != med(b.MED):
		return "med", med(a.MED)
	case a.Prepend != b.Prepend:
		return "asPathPrepend", a.Prepend
	case a.Weighted != b.Weighted:
		return "weightByEndpoints", a.Weighted
	}
	return "", nil
}

// shareAPrefix reports whether both announce addresses of one pool by prefixes of one length.
func shareAPrefix(a, b lb.BGPAdvertisement, pools []lb.Pool) bool {
	for _, p := range pools {
		if !a.Covers(p, lb.Service{}) || !b.Covers(p, lb.Service{}) {
			continue
		}
		for _, r := range p.Ranges {
			if r.From.Is4() && a.Length == b.Length || !r.From.Is4() && a.LengthV6 == b.LengthV6 {
				return true
			}
		}
	}
	return false
}

// shareAPeer reports whether both tell one peer from one node. Without BGPPeers it is as if there were one for everybody.
func shareAPeer(a, b lb.BGPAdvertisement, f Facts) bool {
	for _, n := range f.BGP.Nodes {
		if !lb.MatchesAny(a.NodeSelectors, n.Labels) || !lb.MatchesAny(b.NodeSelectors, n.Labels) {
			continue
		}
		for _, p := range f.BGP.Peers {
			if lb.MatchesAny(p.Parsed.NodeSelectors, n.Labels) && a.Tells(p.Object.Name) && b.Tells(p.Object.Name) {
				return true
			}
		}
		if len(f.BGP.Peers) == 0 && (len(a.Peers) == 0 || len(b.Peers) == 0 || slices.ContainsFunc(a.Peers, b.Tells)) {
			return true
		}
	}
	return false
}
