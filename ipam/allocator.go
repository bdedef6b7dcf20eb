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
	owners  map[netip.Addr]tenancy
	resting map[netip.Addr]time.Time // since when
	used    map[string]int           // addresses of all pools together by namespace, one that its Services share counted once
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
	Addrs []netip.Addr // the first of each family in the order of the Service's families, then the second of each; read only
	Freed bool         // the call gave an address up, so that a waiting Service may now be served
}

// EachOf reports whether there is an address of each of the families.
func (a Assignment) EachOf(families []lb.Family) bool {
	return !slices.ContainsFunc(families, func(f lb.Family) bool { return lb.CountOf(a.Addrs, f) == 0 })
}

// New returns an allocator without pools. A freed address rests for the given time, zero or more, unless its
// pool says otherwise.
func New(rest time.Duration) *Allocator {
	return &Allocator{
		restFor: max(rest, 0),
		leases:  map[lb.ServiceKey]lease{},
		owners:  map[netip.Addr]tenancy{},
		resting: map[netip.Addr]time.Time{},
		used:    map[string]int{},
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
	a.enter()
	clear(a.resting)
	for _, r := range tired {
		a.rest(r)
	}
}

// enter notes in new pools who owns what.
func (a *Allocator) enter() {
	clear(a.used)
	var shared []netip.Addr
	for addr, t := range a.owners {
		a.eachSpan(addr, func(s *span) { s.take(addr) })
		for namespace := range t.namespaces {
			a.count(addr, namespace, 1)
		}
		if t.party != nil || a.leases[t.sole].sharing != "" {
			shared = append(shared, addr)
		}
	}
	slices.SortFunc(shared, netip.Addr.Compare) // crowds grow at their end, which is cheap
	for _, addr := range shared {
		t := a.owners[addr]
		for namespace := range t.namespaces {
			a.share(addr, lb.ServiceKey{Namespace: namespace}, a.sharing(t))
		}
	}
}

// Adopt takes over the addresses that s has in its status, as the work of an earlier process; call it for every Service
// after the first SetPools and before the first Ensure. An address in no pool is adopted if s names the pool that it was
// once from; otherwise another implementation must have put it there. The refusal says which address belongs to another
// Service already and cannot be shared with it; the other addresses of s are adopted all the same.
func (a *Allocator) Adopt(s lb.Service) lb.Refusal {
	id := sharingID(&s)
	var refusal lb.Refusal
	var addrs []netip.Addr
	for _, addr := range s.Addrs() {
		foreign := s.Pool == "" && !slices.ContainsFunc(a.pools, func(p *pool) bool { return p.Contains(addr) })
		if foreign || slices.Contains(addrs, addr) {
			continue
		}
		if r := a.joinable(addr, &s, id); !r.OK() {
			refusal = r
			continue
		}
		addrs = append(addrs, addr)
	}
	if len(addrs) > 0 {
		a.commit(&s, id, s.Pool, addrs, time.Time{})
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
	r := &request{Service: s, id: sharingID(&s), families: wanted(&s), now: now}
	r.held = a.leases[s.Key]
	r.kept = a.keepable(r)
	pool, addrs, refusal := a.decide(r)
	freed = a.commit(&s, r.id, pool, addrs, now) || freed
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
	for _, addr := range ascending(old.addrs) {
		a.disown(addr, key, old, now)
	}
	delete(a.leases, key)
	return true
}

// ascending returns addrs sorted: in this order those that are freed at once come to be given out again.
func ascending(addrs []netip.Addr) []netip.Addr {
	if len(addrs) < 2 {
		return addrs
	}
	return slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
}

// commit makes addrs what s owns and reports whether it gave up one that it had.
func (a *Allocator) commit(s *lb.Service, id, pool string, addrs []netip.Addr, now time.Time) bool {
	old := a.leases[s.Key]
	l := lease{uid: s.UID, addrs: addrs, pool: pool, sharing: id, ports: s.Ports}
	stays := old.sharing == id && slices.Equal(old.ports, s.Ports) // in the eyes of those who share its addresses
	if stays && slices.Equal(old.addrs, addrs) && old.pool == pool && old.uid == s.UID {
		return false
	}
	freed := false
	for _, addr := range ascending(old.addrs) {
		switch {
		case !slices.Contains(addrs, addr):
			a.disown(addr, s.Key, old, now)
			freed = true
		case !stays:
			a.reshare(addr, s.Key, old, l)
		}
	}
	for _, addr := range addrs {
		if !slices.Contains(old.addrs, addr) {
			a.own(addr, s.Key, l)
		}
	}
	if len(addrs) == 0 {
		delete(a.leases, s.Key)
	} else {
		a.leases[s.Key] = l
	}
	return freed
}

func (a *Allocator) own(addr netip.Addr, key lb.ServiceKey, l lease) {
	before := a.owners[addr]
	if before.neighbours(key) == 0 {
		a.count(addr, key.Namespace, 1)
	}
	a.owners[addr] = before.join(key, l, a.leases)
	delete(a.resting, addr)
	a.eachSpan(addr, func(s *span) { s.take(addr) })
	a.share(addr, key, l.sharing)
}

func (a *Allocator) disown(addr netip.Addr, key lb.ServiceKey, l lease, now time.Time) {
	left := a.owners[addr].leave(key, l.ports)
	if left.empty() {
		delete(a.owners, addr)
	} else {
		a.owners[addr] = left
	}
	if left.neighbours(key) == 0 {
		a.count(addr, key.Namespace, -1)
	}
	a.unshare(addr, key, l)
	if left.empty() {
		a.rest(rest{addr, now})
	}
}

// reshare has the Service share addr, which it owns, by other rules than before.
func (a *Allocator) reshare(addr netip.Addr, key lb.ServiceKey, old, now lease) {
	rest := a.owners[addr].leave(key, old.ports)
	a.owners[addr] = rest
	a.unshare(addr, key, old)
	a.owners[addr] = rest.join(key, now, a.leases)
	a.share(addr, key, now.sharing)
}

func (a *Allocator) eachSpan(addr netip.Addr, do func(*span)) {
	for _, p := range a.pools {
		if s := p.spanOf(addr); s != nil {
			do(s)
		}
	}
}
