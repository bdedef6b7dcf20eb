package ipam

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// Allocator knows the pools, who owns which address, and which addresses rest. It is not safe for concurrent use.
type Allocator struct {
	restFor time.Duration // where the pool says nothing
	pools   []*pool       // in the order in which they are tried
	leases  map[lb.ServiceKey]lease
	owners  map[netip.Addr][]lb.ServiceKey
	resting map[netip.Addr]time.Time // since when
	sharers map[string][]netip.Addr  // by sharing identity; an address once per owner
}

// lease is what one Service owns and by which rules.
type lease struct {
	uid     string
	addrs   []netip.Addr
	pool    string
	sharing string // identity for sharing, "" = alone; see sharing.go
	ports   []lb.Port
}

// Assignment is what a Service owns.
type Assignment struct {
	Pool  string       // where the addresses are from; the old name where the pool is gone
	Addrs []netip.Addr // at most one per family, in the order of the Service's families; must not be written to
	Freed bool         // the call gave an address up, so that a waiting Service may now be served
}

// New returns an allocator without pools. A freed address rests for the given time, zero or more, unless its
// pool says otherwise.
func New(rest time.Duration) *Allocator {
	return &Allocator{
		restFor: max(rest, 0),
		leases:  map[lb.ServiceKey]lease{},
		owners:  map[netip.Addr][]lb.ServiceKey{},
		resting: map[netip.Addr]time.Time{},
		sharers: map[string][]netip.Addr{},
	}
}

// SetPools replaces the pools. Nobody loses an address by it; call Ensure for every Service afterwards to learn who may
// have more and who is outside. Pools may overlap. The cost is a pass over all addresses in use and at rest.
func (a *Allocator) SetPools(pools []lb.Pool, now time.Time) {
	sorted := slices.SortedFunc(slices.Values(pools), byPreference)
	tired := a.tired(now) // by the rules under which they were freed
	a.pools = make([]*pool, 0, len(sorted))
	for _, p := range sorted {
		a.pools = append(a.pools, newPool(p, a.restFor))
	}
	for addr, keys := range a.owners {
		a.eachSpan(addr, func(s *span) { s.take(addr) })
		for i, key := range keys {
			if !inNamespace(keys[:i], key.Namespace) {
				a.count(addr, key.Namespace, 1)
			}
		}
	}
	clear(a.resting)
	for _, r := range tired {
		a.rest(r)
	}
}

// Adopt takes over the addresses that s has in its status, as the work of an earlier process; call it for every Service
// after the first SetPools and before the first Ensure. An address in no pool is adopted if s names the pool that it was
// once from; otherwise another implementation must have put it there. The refusal says which address belongs to another
// Service already and cannot be shared with it; the other addresses of s are adopted all the same.
func (a *Allocator) Adopt(s lb.Service) lb.Refusal {
	id := sharingID(s)
	var refusal lb.Refusal
	var addrs []netip.Addr
	for _, addr := range s.Addrs() {
		foreign := s.Pool == "" && !slices.ContainsFunc(a.pools, func(p *pool) bool { return p.Contains(addr) })
		if foreign || slices.Contains(addrs, addr) {
			continue
		}
		if r := a.joinable(addr, s, id); !r.OK() {
			refusal = r
			continue
		}
		addrs = append(addrs, addr)
	}
	if len(addrs) > 0 {
		a.commit(s, id, s.Pool, addrs, time.Time{})
	}
	return refusal
}

// Ensure returns what s owns after the call: what it had, if that is what it asks for, else something new. The refusal says
// why a wish is not fulfilled; the assignment may still hold addresses then. With [lb.AddressOutsidePools] s has all it
// asks for, but no pool would give it that today. A Service that is to be released has been when nothing is refused: it
// has what today's pools give it beside what it had, or all the same if it asks for that by name; the next call must not
// ask for it again.
func (a *Allocator) Ensure(s lb.Service, now time.Time) (Assignment, lb.Refusal) {
	freed := false
	if old, ok := a.leases[s.Key]; ok && old.uid != s.UID { // deleted and created anew between two looks
		freed = a.Release(s.Key, now)
	}
	if _, ok := a.leases[s.Key]; !ok && len(s.Ingress) > 0 {
		a.Adopt(s) // what it refuses is decided anew below
	}
	r := request{Service: s, id: sharingID(s), families: wanted(s), now: now}
	r.held = a.leases[s.Key]
	r.kept = a.keepable(r)
	pool, addrs, refusal := a.decide(r)
	freed = a.commit(s, r.id, pool, addrs, now) || freed
	if refusal.OK() {
		refusal = a.outside(s, addrs)
	}
	return Assignment{Pool: pool, Addrs: addrs, Freed: freed}, refusal
}

// Release takes everything from the Service and reports whether it had anything.
func (a *Allocator) Release(key lb.ServiceKey, now time.Time) bool {
	old, ok := a.leases[key]
	if !ok {
		return false
	}
	for _, addr := range old.addrs {
		a.disown(addr, key, now)
		a.unshare(old.sharing, addr)
	}
	delete(a.leases, key)
	return true
}

// commit makes addrs what s owns and reports whether it gave up one that it had.
func (a *Allocator) commit(s lb.Service, id, pool string, addrs []netip.Addr, now time.Time) bool {
	old := a.leases[s.Key]
	freed := false
	for _, addr := range old.addrs {
		a.unshare(old.sharing, addr)
		if !slices.Contains(addrs, addr) {
			a.disown(addr, s.Key, now)
			freed = true
		}
	}
	for _, addr := range addrs {
		if !slices.Contains(old.addrs, addr) {
			a.own(addr, s.Key)
		}
		if id != "" {
			a.sharers[id] = append(a.sharers[id], addr)
		}
	}
	if len(addrs) == 0 {
		delete(a.leases, s.Key)
	} else {
		a.leases[s.Key] = lease{uid: s.UID, addrs: addrs, pool: pool, sharing: id, ports: s.Ports}
	}
	return freed
}

func (a *Allocator) own(addr netip.Addr, key lb.ServiceKey) {
	if !inNamespace(a.owners[addr], key.Namespace) {
		a.count(addr, key.Namespace, 1)
	}
	a.owners[addr] = append(a.owners[addr], key)
	delete(a.resting, addr)
	a.eachSpan(addr, func(s *span) { s.take(addr) })
}

func (a *Allocator) disown(addr netip.Addr, key lb.ServiceKey, now time.Time) {
	left := slices.DeleteFunc(a.owners[addr], func(k lb.ServiceKey) bool { return k == key })
	if !inNamespace(left, key.Namespace) {
		a.count(addr, key.Namespace, -1)
	}
	if len(left) > 0 {
		a.owners[addr] = left
		return
	}
	delete(a.owners, addr)
	a.rest(rest{addr, now})
}

func (a *Allocator) eachSpan(addr netip.Addr, do func(*span)) {
	for _, p := range a.pools {
		if s := p.spanOf(addr); s != nil {
			do(s)
		}
	}
}
