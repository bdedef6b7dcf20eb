package session

import (
	"net"
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// nextHops returns for each family what the peer shall send packets to: our end of the connection, and for the other family an
// address of the same interface. A peer that takes IPv6 next hops for IPv4 prefixes (RFC 8950) gets one where the interface
// has no IPv4 address.
func nextHops(local netip.Addr, families []lb.Family, extended bool) map[lb.Family]netip.Addr {
	local = local.Unmap()
	out := map[lb.Family]netip.Addr{}
	for _, f := range families {
		if f == lb.FamilyOf(local) && !(f == lb.IPv6 && local.IsLinkLocalUnicast()) {
			out[f] = local.WithZone("")
			continue
		}
		if a := neighbour(local, f); a.IsValid() {
			out[f] = a
		}
	}
	if !out[lb.IPv6].IsValid() && local.Is6() {
		for _, f := range families {
			if f == lb.IPv6 {
				out[f] = local.WithZone("") // of the link, which single-hop peers share with us
			}
		}
	}
	for _, f := range families {
		if f == lb.IPv4 && !out[f].IsValid() && extended && local.Is6() {
			out[f] = local.WithZone("")
		}
	}
	return out
}

// neighbour returns an address of the family on the interface that has the local address. A subnet's is preferred to one that
// stands alone, which may be a service's, and never link-local.
func neighbour(local netip.Addr, f lb.Family) netip.Addr {
	list, err := net.Interfaces()
	if err != nil {
		return netip.Addr{}
	}
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		var alone, inSubnet netip.Addr
		found := false
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			found = found || p.Addr() == local.WithZone("")
			switch {
			case lb.FamilyOf(p.Addr()) != f || !p.Addr().IsGlobalUnicast():
			case p.IsSingleIP():
				alone = p.Addr()
			case !inSubnet.IsValid():
				inSubnet = p.Addr()
			}
		}
		if found && inSubnet.IsValid() {
			return inSubnet
		}
		if found {
			return alone
		}
	}
	return netip.Addr{}
}
