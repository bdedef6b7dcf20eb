package ipam

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// Count is the state of the addresses of one family in one pool. A count ends at the highest int64.
type Count struct {
	Total     int64 // that the pool gives out, or has given out though it avoids them by now
	Assigned  int64 // owned by Services
	Available int64 // could be given out, those at rest included
	Resting   int64 // freed not long ago
}

// Usage is the state of one pool.
type Usage struct {
	Pool       string
	IPv4, IPv6 Count
}

// Usage returns one row per pool, sorted by name. It costs a pass over all addresses in use and at rest. An address that
// two pools hold counts in both.
func (a *Allocator) Usage(now time.Time) []Usage {
	out := make([]Usage, 0, len(a.pools))
	for _, p := range a.pools {
		out = append(out, a.usage(p, now))
	}
	slices.SortFunc(out, func(x, y Usage) int { return strings.Compare(x.Pool, y.Pool) })
	return out
}

func (a *Allocator) usage(p *pool, now time.Time) Usage {
	out := Usage{Pool: p.Name}
	count := func(addr netip.Addr) *Count {
		if lb.FamilyOf(addr) == lb.IPv4 {
			return &out.IPv4
		}
		return &out.IPv6
	}
	for _, s := range p.spans {
		c := count(s.From)
		if c.Total += s.size(); c.Total < 0 {
			c.Total = math.MaxInt64
		}
		c.Available = c.Total
	}
	for addr := range a.owners {
		s, c := p.spanOf(addr), count(addr)
		switch {
		case s == nil:
			continue
		case s.avoids(addr):
			c.Total++
		case c.Available < math.MaxInt64:
			c.Available--
		}
		c.Assigned++
	}
	for addr, since := range a.resting {
		if s := p.spanOf(addr); s != nil && !s.avoids(addr) && since.Add(s.restFor).After(now) {
			count(addr).Resting++
		}
	}
	return out
}
