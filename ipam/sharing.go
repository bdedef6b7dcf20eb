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
func sharingID(s *lb.Service) string {
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
func (a *Allocator) joinable(addr netip.Addr, s *lb.Service, id string) lb.Refusal {
	if a.joins(addr, s, id) {
		return lb.Refusal{}
	}
	t := a.owners[addr]
	anybody := func(lb.ServiceKey) bool { return true }
	other := t.first(s.Key, anybody)
	if id == "" || a.sharing(t) == "" {
		return lb.Refusal{Reason: lb.AddressInUse, Message: fmt.Sprintf(
			"%s belongs to Service %s; request another address, or give both Services the same annotation allow-shared-ip", addr, other)}
	}
	if id != a.sharing(t) {
		return lb.Refusal{Reason: lb.SharingConflict, Message: fmt.Sprintf(
			"%s belongs to Service %s, and only Services with the same allow-shared-ip and either externalTrafficPolicy Cluster or Local with the same selector may share it", addr, other)}
	}
	for _, p := range s.Ports {
		if holder, taken := a.holder(addr, idOf(p)); taken && holder != s.Key {
			return lb.Refusal{Reason: lb.SharingConflict, Message: fmt.Sprintf(
				"%s is shared with Service %s, which has port %d/%s as well; change the port in one of them or request another address", addr, holder, p.Port, p.Protocol)}
		}
	}
	panic("ipam: an address that cannot be joined for no reason")
}

// joins is joinable without the words.
func (a *Allocator) joins(addr netip.Addr, s *lb.Service, id string) bool {
	t := a.owners[addr]
	if t.others(s.Key) == 0 {
		return true
	}
	return id != "" && id == a.sharing(t) && !slices.ContainsFunc(s.Ports, func(p lb.Port) bool {
		holder, taken := a.holder(addr, idOf(p))
		return taken && holder != s.Key
	})
}

// sharing returns the identity by which an address with these owners is shared, "" if it is not.
func (a *Allocator) sharing(t tenancy) string {
	if t.party != nil {
		return t.party.sharing
	}
	return a.leases[t.sole].sharing
}

// holder returns the owner of addr that has the port.
func (a *Allocator) holder(addr netip.Addr, p portID) (lb.ServiceKey, bool) {
	t := a.owners[addr]
	if t.party != nil {
		key, ok := t.party.ports[p]
		return key, ok
	}
	return t.sole, slices.ContainsFunc(a.leases[t.sole].ports, func(q lb.Port) bool { return idOf(q) == p })
}

// crossing says whether s may join addr of p, as far as the namespaces of those who own it go. It is asked only of an
// address that s does not own: nobody loses one because the pool's mind has changed.
func (a *Allocator) crossing(addr netip.Addr, p *pool, s *lb.Service) lb.Refusal {
	if !a.crosses(addr, p, s) {
		return lb.Refusal{}
	}
	elsewhere := func(key lb.ServiceKey) bool { return key.Namespace != s.Key.Namespace }
	return lb.Refusal{Reason: lb.SharingConflict, Message: fmt.Sprintf(
		"%s belongs to Service %s of another namespace; set spec.allowCrossNamespaceSharing of pool %q or request another address",
		addr, a.owners[addr].first(s.Key, elsewhere), p.Name)}
}

// crosses is crossing without the words.
func (a *Allocator) crosses(addr netip.Addr, p *pool, s *lb.Service) bool {
	t := a.owners[addr]
	return !p.ShareAcross && t.others(s.Key) > t.neighbours(s.Key)
}

// shareable returns the lowest address of the family in p that Services like r share and r may join, other than those in
// got. What r owns is none of them: it is only asked for if r is to have another.
func (a *Allocator) shareable(r *request, p *pool, family lb.Family, got []netip.Addr) (netip.Addr, bool) {
	var best netip.Addr
	if r.id == "" {
		return best, false
	}
	for _, s := range p.spans {
		c := s.crowds[s.crowdOf(r.Key, r.id)]
		if c == nil || lb.FamilyOf(s.From) != family {
			continue
		}
		first := 0
		for _, p := range r.Ports {
			first = max(first, c.begin(idOf(p), a.taken))
		}
		for _, addr := range c.addrs[first:] {
			if best.IsValid() && !addr.Less(best) {
				break
			}
			if !slices.Contains(got, addr) && !a.owners[addr].has(r.Key) && a.joins(addr, &r.Service, r.id) && !a.crosses(addr, p, &r.Service) {
				best = addr
				break
			}
		}
	}
	return best, best.IsValid()
}

func (a *Allocator) taken(addr netip.Addr, p portID) bool {
	_, taken := a.holder(addr, p)
	return taken
}

// share notes in every span that holds addr that the Service may share it. The Service owns it already.
func (a *Allocator) share(addr netip.Addr, key lb.ServiceKey, id string) {
	if id == "" {
		return
	}
	a.eachSpan(addr, func(s *span) {
		k := s.crowdOf(key, id)
		c := s.crowds[k]
		if c == nil {
			c = &crowd{}
			s.crowds[k] = c
		}
		c.add(addr)
	})
}

// unshare undoes share, with the ports that the Service had there. The Service does not own the address any more, or has
// other ports there by now.
func (a *Allocator) unshare(addr netip.Addr, key lb.ServiceKey, l lease) {
	if l.sharing == "" {
		return
	}
	t := a.owners[addr]
	a.eachSpan(addr, func(s *span) {
		k := s.crowdOf(key, l.sharing)
		left := t.others(key)
		if k.namespace != "" {
			left = t.neighbours(key)
		}
		c := s.crowds[k]
		if left == 0 {
			c.remove(addr)
			if len(c.addrs) == 0 {
				delete(s.crowds, k)
			}
			return
		}
		for _, p := range l.ports {
			c.vacate(addr, idOf(p))
		}
	})
}
