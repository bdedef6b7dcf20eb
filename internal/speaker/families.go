package speaker

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/lb"
)

// families are the announcers of both address families as one; v6 may be nil.
type families struct{ v4, v6 Announcer }

// each calls f with the announcers and what tells their addresses.
func (a families) each(f func(one Announcer, serves func(netip.Addr) bool)) {
	f(a.v4, netip.Addr.Is4)
	if a.v6 != nil {
		f(a.v6, netip.Addr.Is6)
	}
}

// set gives every announcer the targets of its family and returns what all have reached.
func (a families) set(want map[netip.Addr]announce.Target) map[netip.Addr]announce.Target {
	reached := make(map[netip.Addr]announce.Target, len(want))
	a.each(func(one Announcer, serves func(netip.Addr) bool) {
		part := map[netip.Addr]announce.Target{}
		for addr, t := range want {
			if serves(addr) {
				part[addr] = t
			}
		}
		maps.Copy(reached, one.Set(part))
	})
	return reached
}

func (a families) setLinks(links []lb.Link) {
	a.each(func(one Announcer, _ func(netip.Addr) bool) { one.SetLinks(links) })
}

func (a families) conflicts() map[netip.Addr]lb.MAC {
	out := map[netip.Addr]lb.MAC{}
	a.each(func(one Announcer, _ func(netip.Addr) bool) { maps.Copy(out, one.Conflicts()) })
	return out
}

// working returns the links with those of their subnets whose announcer works there; a link on which none does is down.
func (a families) working(links []lb.Link) []lb.Link {
	out := slices.Clone(links)
	for i := range out {
		out[i].Prefixes = nil
	}
	a.each(func(one Announcer, serves func(netip.Addr) bool) {
		works := one.Working()
		for i, l := range links {
			for _, p := range l.Prefixes {
				if works[l.Name] && serves(p.Addr()) {
					out[i].Prefixes = append(out[i].Prefixes, p)
				}
			}
		}
	})
	for i := range out {
		out[i].Up = out[i].Up && len(out[i].Prefixes) > 0
	}
	return out
}
