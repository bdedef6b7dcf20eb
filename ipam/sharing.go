package ipam

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// sharingID is what two Services must have in common to share an address: the sharing key, and the pods if
// externalTrafficPolicy is Local, since then a node announces the address for all of them or for none. "" shares with
// nobody.
func sharingID(s lb.Service) string {
	switch {
	case s.SharingKey == "":
		return ""
	case s.ExternalTrafficPolicy != lb.Local:
		return s.SharingKey
	case s.Selector == "": // custom slices: nobody can say whether the pods are the same
		return s.SharingKey + "\x00slices of\x00" + s.Key.String()
	}
	return s.SharingKey + "\x00pods\x00" + s.Selector
}

// joinable says whether s may own addr besides those who own it already.
func (a *Allocator) joinable(addr netip.Addr, s lb.Service, id string) lb.Refusal {
	for _, key := range a.owners[addr] {
		if key == s.Key {
			continue
		}
		other := a.leases[key]
		if id == "" || other.sharing == "" {
			return lb.Refusal{Reason: lb.AddressInUse, Message: fmt.Sprintf(
				"%s belongs to Service %s; request another address, or give both Services the same annotation allow-shared-ip", addr, key)}
		}
		if id != other.sharing {
			return lb.Refusal{Reason: lb.SharingConflict, Message: fmt.Sprintf(
				"%s belongs to Service %s, and only Services with the same allow-shared-ip and either externalTrafficPolicy Cluster or Local with the same selector may share it", addr, key)}
		}
		if p, ok := commonPort(s.Ports, other.ports); ok {
			return lb.Refusal{Reason: lb.SharingConflict, Message: fmt.Sprintf(
				"%s is shared with Service %s, which has port %d/%s as well; change the port in one of them or request another address", addr, key, p.Port, p.Protocol)}
		}
	}
	return lb.Refusal{}
}

// crossing says whether s may join addr of p, as far as the namespaces of those who own it go. It is asked only of an
// address that s does not own: nobody loses one because the pool's mind has changed.
func (a *Allocator) crossing(addr netip.Addr, p *pool, s lb.Service) lb.Refusal {
	if p.ShareAcross {
		return lb.Refusal{}
	}
	for _, key := range a.owners[addr] {
		if key.Namespace != s.Key.Namespace {
			return lb.Refusal{Reason: lb.SharingConflict, Message: fmt.Sprintf(
				"%s belongs to Service %s of another namespace; set spec.allowCrossNamespaceSharing of pool %q or request another address", addr, key, p.Name)}
		}
	}
	return lb.Refusal{}
}

func commonPort(a, b []lb.Port) (lb.Port, bool) {
	for _, p := range a {
		if slices.ContainsFunc(b, func(q lb.Port) bool { return p.Port == q.Port && p.Protocol == q.Protocol }) {
			return p, true
		}
	}
	return lb.Port{}, false
}

// shareable returns the lowest address of the family in p that Services like r share and r may join. Its own is none of
// them: it is only asked for if r is to have another.
func (a *Allocator) shareable(p *pool, family lb.Family, r request) (netip.Addr, bool) {
	var best netip.Addr
	for _, addr := range a.sharers[r.id] {
		if owners := a.owners[addr]; len(owners) == 1 && owners[0] == r.Key {
			continue
		}
		if lb.FamilyOf(addr) != family || !p.Contains(addr) || best.IsValid() && !addr.Less(best) {
			continue
		}
		if a.joinable(addr, r.Service, r.id).OK() && a.crossing(addr, p, r.Service).OK() {
			best = addr
		}
	}
	return best, best.IsValid()
}

// unshare takes one entry of addr out of the list of those who share by id.
func (a *Allocator) unshare(id string, addr netip.Addr) {
	if i := slices.Index(a.sharers[id], addr); i >= 0 {
		a.sharers[id] = slices.Delete(a.sharers[id], i, i+1)
	}
	if len(a.sharers[id]) == 0 {
		delete(a.sharers, id)
	}
}
