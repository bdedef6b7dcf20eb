package ipam

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// decideAddrs serves a request for addresses by name. They must be of different families out of r's, and in one pool; a
// family that is not named is filled from the same pool.
func (a *Allocator) decideAddrs(r request) (string, []netip.Addr, lb.Refusal) {
	if refusal := r.checkFamilies(); !refusal.OK() {
		return r.held.pool, r.kept, refusal
	}
	if !slices.ContainsFunc(r.RequestedAddrs, func(addr netip.Addr) bool { return !slices.Contains(r.kept, addr) }) {
		return a.complete(r, a.home(r)) // it has what it names; what else it has stays too
	}
	p, refusal := a.poolFor(r)
	if !refusal.OK() {
		return r.held.pool, r.kept, refusal
	}
	for _, addr := range r.RequestedAddrs {
		if refusal := a.joinable(addr, r.Service, r.id); !refusal.OK() {
			return r.held.pool, r.kept, refusal
		}
		if refusal := a.crossing(addr, p, r.Service); !refusal.OK() && !slices.Contains(r.kept, addr) {
			return r.held.pool, r.kept, refusal
		}
		if p.AvoidBuggyIPs && buggy(addr) && !slices.Contains(r.kept, addr) {
			return r.keep(lb.AddressBuggy, "requested address %s ends in .0 or .255 and pool %q avoids those; request another or unset avoidBuggyIPs", addr, p.Name)
		}
	}
	have := slices.Clone(r.RequestedAddrs)
	for _, addr := range r.kept { // an address of a family that is not named may stay if it is from the same pool
		named := slices.ContainsFunc(have, func(h netip.Addr) bool { return lb.FamilyOf(h) == lb.FamilyOf(addr) })
		if !named && p.Contains(addr) {
			have = append(have, addr)
		}
	}
	if refusal := a.room(r, p, have); !refusal.OK() {
		return r.held.pool, r.kept, refusal
	}
	addrs, missing, quota := a.fill(r, p, have)
	switch {
	case missing == 0 || r.optional():
	case !quota.OK():
		return r.held.pool, r.kept, quota
	default:
		return r.lacks(p, missing, r.RequestedAddrs[0])
	}
	return p.Name, addrs, lb.Refusal{}
}

func (r request) checkFamilies() lb.Refusal {
	var seen []lb.Family
	for _, addr := range r.RequestedAddrs {
		f := lb.FamilyOf(addr)
		if !slices.Contains(r.families, f) {
			return lb.Refusal{Reason: lb.FamilyMismatch, Message: fmt.Sprintf("requested address %s is %s, but the Service wants %s; request another or change spec.ipFamilies", addr, f, join(r.families))}
		}
		if slices.Contains(seen, f) {
			return lb.Refusal{Reason: lb.FamilyMismatch, Message: fmt.Sprintf("requested address %s is the second of family %s; request one of each family", addr, f)}
		}
		seen = append(seen, f)
	}
	return lb.Refusal{}
}

// poolFor returns the pool that holds all addresses that r requests and serves r.
func (a *Allocator) poolFor(r request) (*pool, lb.Refusal) {
	candidates := a.pools
	if r.RequestedPool != "" {
		p, refusal := a.named(r)
		if !refusal.OK() {
			return nil, refusal
		}
		candidates = []*pool{p}
	}
	var holder *pool
	for _, p := range candidates {
		if !p.hasAll(r.RequestedAddrs) {
			continue
		}
		if p.Admits(r.Service) {
			return p, lb.Refusal{}
		}
		holder = p
	}
	if holder != nil {
		return nil, lb.Refusal{Reason: lb.PoolRefuses, Message: fmt.Sprintf("requested address %s is in pool %q, which does not serve this Service; see its spec.serviceAllocation", r.RequestedAddrs[0], holder.Name)}
	}
	return nil, notInPool(r, candidates)
}

func notInPool(r request, candidates []*pool) lb.Refusal {
	for _, addr := range r.RequestedAddrs {
		if !slices.ContainsFunc(candidates, func(p *pool) bool { return p.Contains(addr) }) {
			where := "any pool"
			if r.RequestedPool != "" {
				where = fmt.Sprintf("requested pool %q", r.RequestedPool)
			}
			return lb.Refusal{Reason: lb.AddressNotInPool, Message: fmt.Sprintf("requested address %s is not in %s; request another or add it to a pool", addr, where)}
		}
	}
	return lb.Refusal{Reason: lb.AddressNotInPool, Message: fmt.Sprintf("requested addresses %s and %s are in different pools; request two of one pool", r.RequestedAddrs[0], r.RequestedAddrs[1])}
}

// outside says which of the addresses that s owns no pool would give it today.
func (a *Allocator) outside(s lb.Service, addrs []netip.Addr) lb.Refusal {
	for _, addr := range addrs {
		var holder *pool
		admitted := false
		for _, p := range a.pools {
			if p.Contains(addr) {
				holder = p
				admitted = admitted || p.Admits(s)
			}
		}
		switch {
		case holder == nil:
			return lb.Refusal{Reason: lb.AddressOutsidePools, Message: fmt.Sprintf("%s stays, but no pool holds it any more; add it to a pool again, or set annotation fairlead.dev/release to \"true\" to have another address", addr)}
		case !admitted:
			return lb.Refusal{Reason: lb.AddressOutsidePools, Message: fmt.Sprintf("%s stays, but its pool %q does not serve this Service any more; see the pool's spec.serviceAllocation, or set annotation fairlead.dev/release to \"true\" to have another address", addr, holder.Name)}
		}
	}
	return lb.Refusal{}
}
