package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// decideAddrs serves a request for addresses by name. They must be of r's families, and in one pool; what r wants beside
// them comes from the same pool.
func (a *Allocator) decideAddrs(r *request) (string, []netip.Addr, lb.Refusal) {
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
		if refusal := a.joinable(addr, &r.Service, r.id); !refusal.OK() {
			return r.held.pool, r.kept, refusal
		}
		if refusal := a.crossing(addr, p, &r.Service); !refusal.OK() && !slices.Contains(r.kept, addr) {
			return r.held.pool, r.kept, refusal
		}
		if p.AvoidBuggyIPs && buggy(addr) && !slices.Contains(r.kept, addr) {
			return r.keep(lb.AddressBuggy, "requested address %s ends in .0 or .255 and pool %q avoids those; request another or unset avoidBuggyIPs", addr, p.Name)
		}
	}
	var have []netip.Addr
	for _, addr := range r.kept { // what is not named may stay if it is from the same pool
		if slices.Contains(r.RequestedAddrs, addr) || p.Contains(addr) {
			have = append(have, addr)
		}
	}
	for _, addr := range r.RequestedAddrs {
		if !slices.Contains(have, addr) {
			have = append(have, addr)
		}
	}
	have = r.pick(nil, have)
	if refusal := a.room(r, p, have); !refusal.OK() {
		return r.held.pool, r.kept, refusal
	}
	addrs, quota := a.fill(r, p, have)
	return r.settle(p, addrs, quota)
}

func (r *request) checkFamilies() lb.Refusal {
	for _, addr := range r.RequestedAddrs {
		if f := lb.FamilyOf(addr); !slices.Contains(r.families, f) {
			return lb.Refusal{Reason: lb.FamilyMismatch, Message: fmt.Sprintf("requested address %s is %s, but the Service wants %s; request another or change spec.ipFamilies", addr, f, join(r.families))}
		}
	}
	return lb.Refusal{}
}

// poolFor returns the pool that holds all addresses that r requests and serves r.
func (a *Allocator) poolFor(r *request) (*pool, lb.Refusal) {
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

func notInPool(r *request, candidates []*pool) lb.Refusal {
	for _, addr := range r.RequestedAddrs {
		if !slices.ContainsFunc(candidates, func(p *pool) bool { return p.Contains(addr) }) {
			where := "any pool"
			if r.RequestedPool != "" {
				where = fmt.Sprintf("requested pool %q", r.RequestedPool)
			}
			return lb.Refusal{Reason: lb.AddressNotInPool, Message: fmt.Sprintf("requested address %s is not in %s; request another or add it to a pool", addr, where)}
		}
	}
	texts := make([]string, len(r.RequestedAddrs))
	for i, addr := range r.RequestedAddrs {
		texts[i] = addr.String()
	}
	return lb.Refusal{Reason: lb.AddressNotInPool, Message: fmt.Sprintf("requested addresses %s are in different pools; request those of one pool", strings.Join(texts, " and "))}
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
