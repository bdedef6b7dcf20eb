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
	spans   []*span // in the order of the entries
	byAddr  []*span // the same, sorted by their first address
	restFor time.Duration
	used    map[string]int // by namespace: addresses that its Services own, one that they share counted once
}

func newPool(p lb.Pool, restFor time.Duration) *pool {
	if p.Rest != nil {
		restFor = max(*p.Rest, 0)
	}
	out := &pool{Pool: p, restFor: restFor, used: map[string]int{}}
	for _, r := range p.Ranges {
		out.spans = append(out.spans, newSpan(r, p, restFor))
	}
	out.byAddr = slices.SortedFunc(slices.Values(out.spans), func(x, y *span) int { return x.From.Compare(y.From) })
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

// spanOf returns the pool's span that contains addr, nil if there is none.
func (p *pool) spanOf(addr netip.Addr) *span {
	i, exact := slices.BinarySearchFunc(p.byAddr, addr, func(s *span, addr netip.Addr) int { return s.From.Compare(addr) })
	if !exact {
		i--
	}
	if i < 0 || !p.byAddr[i].Contains(addr) {
		return nil
	}
	return p.byAddr[i]
}

// Contains reports whether addr is in one of the pool's ranges, at a cost that hardly grows with their number.
func (p *pool) Contains(addr netip.Addr) bool { return p.spanOf(addr) != nil }
