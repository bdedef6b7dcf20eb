package ipam

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// pool is an lb.Pool with what is known about its addresses.
type pool struct {
	lb.Pool
	spans   []*span
	restFor time.Duration
	used    map[string]int // by namespace: addresses that its Services own, one that they share counted once
}

func newPool(p lb.Pool, restFor time.Duration) *pool {
	if p.Rest != nil {
		restFor = max(*p.Rest, 0)
	}
	out := &pool{Pool: p, restFor: restFor, used: map[string]int{}}
	for _, r := range p.Ranges {
		out.spans = append(out.spans, newSpan(r, p.AvoidBuggyIPs, restFor))
	}
	return out
}

// byPreference is the order in which pools are tried.
func byPreference(a, b lb.Pool) int {
	rank := func(p lb.Pool) int {
		if p.Priority == 0 {
			return math.MaxInt
		}
		return p.Priority
	}
	special := func(p lb.Pool) int {
		if p.Pinned() {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(special(a), special(b)), strings.Compare(a.Name, b.Name))
}

// has reports whether the pool holds addresses of all the families.
func (p *pool) has(families []lb.Family) bool {
	for _, f := range families {
		if !slices.ContainsFunc(p.Ranges, func(r lb.Range) bool { return lb.FamilyOf(r.From) == f }) {
			return false
		}
	}
	return true
}

// hasAll reports whether every one of addrs is in the pool.
func (p *pool) hasAll(addrs []netip.Addr) bool {
	return !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !p.Contains(a) })
}

// Count is the state of the addresses of one family in one pool. A count ends at the highest int64.
type Count struct {
	Assigned  int64 // owned by Services
	Available int64 // could be given out, those at rest included
}

// Usage is the state of one pool.
type Usage struct {
	Pool       string
	IPv4, IPv6 Count
}

// Usage returns one row per pool, sorted by name. It costs a pass over all addresses in use. An address that two pools
// hold counts in both.
func (a *Allocator) Usage() []Usage {
	out := make([]Usage, 0, len(a.pools))
	for _, p := range a.pools {
		out = append(out, p.usage(a.owners))
	}
	slices.SortFunc(out, func(x, y Usage) int { return strings.Compare(x.Pool, y.Pool) })
	return out
}

func (p *pool) usage(owners map[netip.Addr][]lb.ServiceKey) Usage {
	out := Usage{Pool: p.Name}
	count := func(f lb.Family) *Count {
		if f == lb.IPv4 {
			return &out.IPv4
		}
		return &out.IPv6
	}
	for _, s := range p.spans {
		c := count(lb.FamilyOf(s.From))
		if c.Available += s.size(); c.Available < 0 {
			c.Available = math.MaxInt64
		}
	}
	for addr := range owners {
		s := p.spanOf(addr)
		if s == nil {
			continue
		}
		c := count(lb.FamilyOf(addr))
		c.Assigned++
		if !s.avoids(addr) && c.Available < math.MaxInt64 {
			c.Available--
		}
	}
	return out
}

// spanOf returns the pool's span that contains addr, nil if there is none.
func (p *pool) spanOf(addr netip.Addr) *span {
	for _, s := range p.spans {
		if s.Contains(addr) {
			return s
		}
	}
	return nil
}
