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
	families []lb.Family // the preferred one first
	now      time.Time
	held     lease        // what it owns
	kept     []netip.Addr // of these, what it may go on owning
}

// wanted returns the families of which s wants addresses.
func wanted(s *lb.Service) []lb.Family {
	switch {
	case len(s.Families) == 0:
		return []lb.Family{lb.IPv4}
	case s.FamilyPolicy == lb.PreferDualStack || s.FamilyPolicy == lb.RequireDualStack:
		return s.Families[:min(2, len(s.Families))]
	}
	return s.Families[:1]
}

// optional reports whether r is content with one family where it cannot have two.
func (r *request) optional() bool { return r.FamilyPolicy != lb.RequireDualStack }

// count returns how many addresses of the family r wants: as many as it says, or as it names if these are more.
func (r *request) count(f lb.Family) int { return max(1, r.PerFamily, lb.CountOf(r.RequestedAddrs, f)) }

// lacking returns the first family of which there is none in addrs, and the first of which there are some but fewer than r
// wants; 0 for none.
func (r *request) lacking(addrs []netip.Addr) (absent, short lb.Family) {
	for _, f := range r.families {
		switch n := lb.CountOf(addrs, f); {
		case n == 0 && absent == 0:
			absent = f
		case n > 0 && n < r.count(f) && short == 0:
			short = f
		}
	}
	return absent, short
}

// pick appends to out those of addrs that r may have: of each family the ones that it names, and of the others the first, as
// many as it wants in all. The first of each family come first, in the order of the families, then the second of each.
func (r *request) pick(out, addrs []netip.Addr) []netip.Addr {
	for n, before := 0, -1; before < len(out); n++ {
		before = len(out)
		for _, f := range r.families {
			if addr, ok := r.nth(addrs, f, n); ok {
				out = append(out, addr)
			}
		}
	}
	return out
}

// nth returns what pick takes of the family as the nth.
func (r *request) nth(addrs []netip.Addr, f lb.Family, n int) (netip.Addr, bool) {
	unnamed := r.count(f)
	for _, addr := range addrs {
		if lb.FamilyOf(addr) == f && slices.Contains(r.RequestedAddrs, addr) {
			unnamed--
		}
	}
	for _, addr := range addrs {
		if lb.FamilyOf(addr) != f {
			continue
		}
		if !slices.Contains(r.RequestedAddrs, addr) {
			if unnamed == 0 {
				continue
			}
			unnamed--
		}
		if n == 0 {
			return addr, true
		}
		n--
	}
	return netip.Addr{}, false
}

// keepable returns the addresses that r owns and may keep: as many per family as it wants, and still shareable with the
// others who own them.
func (a *Allocator) keepable(r *request) []netip.Addr {
	able := r.held.addrs
	if lost := func(addr netip.Addr) bool { return !a.joins(addr, &r.Service, r.id) }; slices.ContainsFunc(able, lost) {
		able = slices.DeleteFunc(slices.Clone(able), lost)
	}
	var buf [8]netip.Addr
	out := r.pick(buf[:0], able)
	if slices.Equal(out, r.held.addrs) {
		return r.held.addrs // the same slice, so that nothing is copied in the usual case
	}
	return slices.Clone(out)
}

// decide returns the pool and the addresses that r is to own, with a refusal where these are not what it asks for.
func (a *Allocator) decide(r *request) (string, []netip.Addr, lb.Refusal) {
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
func (a *Allocator) renew(r *request) (string, []netip.Addr, lb.Refusal) {
	fresh := *r
	fresh.held, fresh.kept = lease{}, nil
	pool, addrs, refusal := a.decide(&fresh)
	if !refusal.OK() {
		return r.keep(refusal.Reason, "not released yet: %s", refusal.Message)
	}
	return pool, addrs, refusal
}

// keep is the answer to a wish that cannot be fulfilled.
func (r *request) keep(reason lb.Reason, format string, args ...any) (string, []netip.Addr, lb.Refusal) {
	return r.held.pool, r.kept, lb.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// home returns the pool that r's addresses are from: the one it was served from if that still holds them and serves r, else
// the first that does; nil if none does.
func (a *Allocator) home(r *request) *pool {
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

// complete keeps what r has and adds what it lacks, out of the same pool.
func (a *Allocator) complete(r *request, home *pool) (string, []netip.Addr, lb.Refusal) {
	absent, short := r.lacking(r.kept)
	switch {
	case home == nil && short != 0:
		return r.keep(lb.NoPoolAdmits, "%s: %s is in no pool that serves this Service, so it cannot be joined by another; add it to one, or set annotation fairlead.dev/release to \"true\" to have others", r.tally(short, r.kept), r.kept[0])
	case home == nil && absent != 0 && !r.optional():
		return r.keep(lb.NoPoolAdmits, "%s is in no pool that serves this Service, so it cannot be joined by an address of the other family; add it to one that has both", r.kept[0])
	case home == nil:
		return r.held.pool, r.kept, lb.Refusal{}
	case absent == 0 && short == 0:
		return home.Name, r.kept, lb.Refusal{}
	}
	addrs, quota := a.fill(r, home, r.kept)
	return r.settle(home, addrs, quota)
}

// settle is the answer to r once p has given all it can, with the quota that held it back. Who needs both families gets
// nothing new until there is an address of each; who wants several of a family gets what there is.
func (r *request) settle(p *pool, addrs []netip.Addr, quota lb.Refusal) (string, []netip.Addr, lb.Refusal) {
	absent, short := r.lacking(addrs)
	switch {
	case absent != 0 && !r.optional() && !quota.OK():
		return r.held.pool, r.kept, quota
	case absent != 0 && !r.optional():
		return r.lacks(p, absent)
	case short == 0:
		return p.Name, addrs, lb.Refusal{}
	case !quota.OK():
		return p.Name, addrs, lb.Refusal{Reason: quota.Reason, Message: r.tally(short, addrs) + ": " + quota.Message}
	}
	return p.Name, addrs, lb.Refusal{Reason: lb.PoolExhausted, Message: fmt.Sprintf(
		"%s: pool %q has no other left; add some, delete a Service, or ask for fewer", r.tally(short, addrs), p.Name)}
}

// tally says how many addresses of the family r has of those that it wants.
func (r *request) tally(f lb.Family, addrs []netip.Addr) string {
	return fmt.Sprintf("has %d of %d %s addresses", lb.CountOf(addrs, f), r.count(f), f)
}

// lacks refuses because p, which r's addresses are to be from, cannot add one of the family that is absent.
func (r *request) lacks(p *pool, absent lb.Family) (string, []netip.Addr, lb.Refusal) {
	addr := slices.Concat(r.RequestedAddrs, r.kept)[0]
	if !p.has([]lb.Family{absent}) {
		return r.keep(lb.FamilyMismatch, "pool %q, which %s is from, has no %s addresses; add some, or set ipFamilyPolicy to PreferDualStack", p.Name, addr, absent)
	}
	return r.keep(lb.PoolExhausted, "pool %q, which %s is from, has no %s address left; add some or delete a Service", p.Name, addr, absent)
}

// fill returns have with as many addresses out of p as r lacks, or as there are: first one of each family, then the second.
// The refusal is a quota, if one holds it back.
func (a *Allocator) fill(r *request, p *pool, have []netip.Addr) ([]netip.Addr, lb.Refusal) {
	var buf [8]netip.Addr
	got := append(buf[:0], have...)
	var lent []netip.Addr // taken only while this function looks for more
	var quota lb.Refusal
	dry := map[lb.Family]bool{}
	most := 0
	for _, f := range r.families {
		most = max(most, r.count(f))
	}
	for n := 1; n <= most && len(dry) < len(r.families); n++ {
		for _, f := range r.families {
			if dry[f] || n > r.count(f) || lb.CountOf(got, f) >= n {
				continue
			}
			addr, free, ok := a.candidate(r, p, f, got)
			for free && slices.Contains(got, addr) { // nobody owns it yet
				p.spanOf(addr).take(addr)
				lent = append(lent, addr)
				addr, free, ok = a.candidate(r, p, f, got)
			}
			if ok && quota.OK() {
				quota = a.room(r, p, append(got, addr))
			}
			if !ok || !quota.OK() {
				dry[f] = true
				continue
			}
			got = append(got, addr)
		}
	}
	for _, addr := range lent {
		p.spanOf(addr).giveBack(addr)
	}
	return r.pick(make([]netip.Addr, 0, len(got)), got), quota
}

// candidate returns the address of the family that p gives r beside those in got, and whether it is a free one: then it may
// be in got after all.
func (a *Allocator) candidate(r *request, p *pool, f lb.Family, got []netip.Addr) (addr netip.Addr, free, ok bool) {
	if addr, ok := a.shareable(r, p, f, got); ok {
		return addr, false, true
	}
	return a.next(p, f, r.now, got)
}

// decidePool serves a request for a pool by name. A Service that was served from another pool moves, if the new one can
// serve it; one whose pool was edited or deleted under it stays.
func (a *Allocator) decidePool(r *request) (string, []netip.Addr, lb.Refusal) {
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
func (a *Allocator) named(r *request) (*pool, lb.Refusal) {
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
func (a *Allocator) anywhere(r *request) (string, []netip.Addr, lb.Refusal) {
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

// from serves r anew from the first of pools that has all it wants, or else some of each family. Where one family is enough
// it then looks for the first alone, and for the second.
func (a *Allocator) from(r *request, pools []*pool) (string, []netip.Addr, lb.Refusal) {
	familiesSeen := false
	var quota lb.Refusal // of the pool tried first that has one
	for try := range 3 {
		part := *r
		switch {
		case try > 0 && (len(r.families) < 2 || !r.optional()):
			continue
		case try > 0:
			part.families = r.families[try-1 : try]
		}
		var best *pool
		var some []netip.Addr
		var why lb.Refusal
		for _, p := range pools {
			if !p.has(part.families) {
				continue
			}
			familiesSeen = true
			addrs, full := a.fill(&part, p, nil)
			absent, short := part.lacking(addrs)
			if absent == 0 && short == 0 {
				return p.Name, addrs, lb.Refusal{}
			}
			if absent == 0 && best == nil {
				best, some, why = p, addrs, full
			}
			if quota.OK() {
				quota = full
			}
		}
		if best != nil {
			return part.settle(best, some, why)
		}
	}
	if !quota.OK() {
		return r.held.pool, r.kept, quota
	}
	return r.nothing(pools, familiesSeen)
}

// nothing refuses because none of pools has an address for r.
func (r *request) nothing(pools []*pool, familiesSeen bool) (string, []netip.Addr, lb.Refusal) {
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
