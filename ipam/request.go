package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// request is a Service that wants addresses, with what it has.
type request struct {
	lb.Service
	id       string      // for sharing
	families []lb.Family // one address of each, the preferred family first
	now      time.Time
	held     lease        // what it owns
	kept     []netip.Addr // of these, what it may go on owning
}

// wanted returns the families of which s wants an address each.
func wanted(s lb.Service) []lb.Family {
	switch {
	case len(s.Families) == 0:
		return []lb.Family{lb.IPv4}
	case s.FamilyPolicy == lb.PreferDualStack || s.FamilyPolicy == lb.RequireDualStack:
		return s.Families[:min(2, len(s.Families))]
	}
	return s.Families[:1]
}

// optional reports whether r is content with one address where it cannot have two.
func (r request) optional() bool { return r.FamilyPolicy != lb.RequireDualStack }

// keepable returns the addresses that r owns and may keep: one per wanted family, in the order of the families, and still
// shareable with the others who own them.
func (a *Allocator) keepable(r request) []netip.Addr {
	var out []netip.Addr
	for _, f := range r.families {
		for _, addr := range r.held.addrs {
			if lb.FamilyOf(addr) == f && a.joinable(addr, r.Service, r.id).OK() {
				out = append(out, addr)
				break
			}
		}
	}
	if slices.Equal(out, r.held.addrs) {
		return r.held.addrs // the same slice, so that nothing is copied in the usual case
	}
	return out
}

// decide returns the pool and the addresses that r is to own, with a refusal where these are not what it asks for.
func (a *Allocator) decide(r request) (string, []netip.Addr, lb.Refusal) {
	switch {
	case r.Release && len(r.held.addrs) > 0:
		return a.renew(r)
	case len(r.RequestedAddrs) > 0:
		return a.decideAddrs(r)
	case r.RequestedPool != "":
		return a.decidePool(r)
	case len(r.kept) > 0:
		return a.complete(r, a.home(r))
	}
	return a.anywhere(r)
}

// renew decides as if r had nothing. It keeps what it has until there is something else for it.
func (a *Allocator) renew(r request) (string, []netip.Addr, lb.Refusal) {
	fresh := r
	fresh.held, fresh.kept = lease{}, nil
	pool, addrs, refusal := a.decide(fresh)
	if !refusal.OK() {
		return r.keep(refusal.Reason, "not released yet: %s", refusal.Message)
	}
	return pool, addrs, refusal
}

// keep is the answer to a wish that cannot be fulfilled.
func (r request) keep(reason lb.Reason, format string, args ...any) (string, []netip.Addr, lb.Refusal) {
	return r.held.pool, r.kept, lb.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// home returns the pool that r's addresses are from: the one it was served from if that still holds them and serves r, else
// the first that does; nil if none does.
func (a *Allocator) home(r request) *pool {
	serves := func(p *pool) bool { return p.hasAll(r.kept) && p.Admits(r.Service) }
	i := slices.IndexFunc(a.pools, func(p *pool) bool { return p.Name == r.held.pool && serves(p) })
	if i < 0 {
		i = slices.IndexFunc(a.pools, serves)
	}
	if i < 0 {
		return nil
	}
	return a.pools[i]
}

// complete keeps what r has and adds the family it lacks, out of the same pool.
func (a *Allocator) complete(r request, home *pool) (string, []netip.Addr, lb.Refusal) {
	if home == nil {
		if len(r.kept) < len(r.families) && !r.optional() {
			return r.keep(lb.AddressOutsidePools, "%s is in no pool that serves this Service, so it cannot be joined by an address of the other family; add it to one that has both", r.kept[0])
		}
		return r.held.pool, r.kept, lb.Refusal{}
	}
	if len(r.kept) == len(r.families) {
		return home.Name, r.kept, lb.Refusal{}
	}
	addrs, missing, quota := a.fill(r, home, r.kept)
	switch {
	case missing == 0 || r.optional():
		return home.Name, addrs, lb.Refusal{}
	case !quota.OK():
		return r.held.pool, r.kept, quota
	}
	return r.lacks(home, missing, r.kept[0])
}

// lacks refuses because p, which addr is from, cannot add an address of the other family.
func (r request) lacks(p *pool, family lb.Family, addr netip.Addr) (string, []netip.Addr, lb.Refusal) {
	if !p.has([]lb.Family{family}) {
		return r.keep(lb.FamilyMismatch, "pool %q, which %s is from, has no %s addresses; add some, or set ipFamilyPolicy to PreferDualStack", p.Name, addr, family)
	}
	return r.keep(lb.PoolExhausted, "pool %q, which %s is from, has no %s address left; add some or delete a Service", p.Name, addr, family)
}

// fill returns have with an address out of p for every family that is missing in it, in the order of r's families, and the
// first family that p could not give, 0 if none; the refusal is p's quota if that is why.
func (a *Allocator) fill(r request, p *pool, have []netip.Addr) ([]netip.Addr, lb.Family, lb.Refusal) {
	out := make([]netip.Addr, 0, len(r.families))
	var missing lb.Family
	var quota lb.Refusal
	for _, f := range r.families {
		i := slices.IndexFunc(have, func(addr netip.Addr) bool { return lb.FamilyOf(addr) == f })
		if i >= 0 {
			out = append(out, have[i])
			continue
		}
		addr, ok := a.shareable(p, f, r)
		if !ok {
			addr, ok = a.next(p, f, r.now)
		}
		if ok && p.MaxPerNamespace > 0 {
			if full := a.room(r, p, slices.Concat(have, out, []netip.Addr{addr})); !full.OK() {
				ok, quota = false, full
			}
		}
		if ok {
			out = append(out, addr)
		} else if missing == 0 {
			missing = f
		}
	}
	return out, missing, quota
}

// decidePool serves a request for a pool by name. A Service that was served from another pool moves, if the new one can
// serve it; one whose pool was edited or deleted under it stays.
func (a *Allocator) decidePool(r request) (string, []netip.Addr, lb.Refusal) {
	p, refusal := a.named(r)
	switch {
	case refusal.OK() && len(r.kept) > 0 && p.hasAll(r.kept):
		return a.complete(r, p)
	case len(r.kept) > 0 && r.held.pool == r.RequestedPool:
		return a.complete(r, nil)
	case !refusal.OK():
		return r.held.pool, r.kept, refusal
	}
	return a.from(r, []*pool{p})
}

// named returns the requested pool if it serves r.
func (a *Allocator) named(r request) (*pool, lb.Refusal) {
	i := slices.IndexFunc(a.pools, func(p *pool) bool { return p.Name == r.RequestedPool })
	if i < 0 {
		return nil, lb.Refusal{Reason: lb.UnknownPool, Message: fmt.Sprintf("requested pool %q does not exist; correct the annotation address-pool or create the pool", r.RequestedPool)}
	}
	if p := a.pools[i]; p.Admits(r.Service) {
		return p, lb.Refusal{}
	}
	return nil, lb.Refusal{Reason: lb.PoolRefuses, Message: fmt.Sprintf("requested pool %q does not serve this Service; see its spec.serviceAllocation", r.RequestedPool)}
}

// anywhere serves r from the first pool that can.
func (a *Allocator) anywhere(r request) (string, []netip.Addr, lb.Refusal) {
	if len(a.pools) == 0 {
		return r.keep(lb.NoPools, "there is no IPAddressPool; create one in Fairlead's namespace")
	}
	var candidates []*pool
	for _, p := range a.pools {
		if p.AutoAssign && p.Admits(r.Service) {
			candidates = append(candidates, p)
		}
	}
	if len(candidates) == 0 {
		return r.keep(lb.NoPoolAdmits, "no pool serves this Service unasked; see spec.serviceAllocation and spec.autoAssign of the pools, or request one by annotation address-pool")
	}
	return a.from(r, candidates)
}

// from serves r anew from the first of pools that has all families, or else, where that is enough, from the first that has
// the first family, or else the second.
func (a *Allocator) from(r request, pools []*pool) (string, []netip.Addr, lb.Refusal) {
	tries := [][]lb.Family{r.families}
	if len(r.families) == 2 && r.optional() {
		tries = append(tries, r.families[:1], r.families[1:])
	}
	familiesSeen := false
	var quota lb.Refusal // of the pool tried first that has one
	for _, families := range tries {
		for _, p := range pools {
			if !p.has(families) {
				continue
			}
			familiesSeen = true
			part := r
			part.families = families
			addrs, missing, full := a.fill(part, p, nil)
			if missing == 0 {
				return p.Name, addrs, lb.Refusal{}
			}
			if quota.OK() {
				quota = full
			}
		}
	}
	if !quota.OK() {
		return r.held.pool, r.kept, quota
	}
	names := make([]string, len(pools))
	for i, p := range pools {
		names[i] = p.Name
	}
	if !familiesSeen {
		return r.keep(lb.FamilyMismatch, "no pool that may serve this Service (%s) has %s addresses; add some", strings.Join(names, ", "), join(r.families))
	}
	return r.keep(lb.PoolExhausted, "no %s address is left in the pools that may serve this Service (%s); add addresses or delete a Service", join(r.families), strings.Join(names, ", "))
}

func join(families []lb.Family) string {
	texts := make([]string, len(families))
	for i, f := range families {
		texts[i] = f.String()
	}
	return strings.Join(texts, " and ")
}
