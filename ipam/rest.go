package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// rest is an address that nobody owns any more.
type rest struct {
	addr  netip.Addr
	since time.Time
}

// rest puts an address that nobody owns at the end of the queue of every span that holds it. One that no span holds is
// remembered too, in case a pool comes back; SetPools forgets it in the end.
func (a *Allocator) rest(r rest) {
	a.resting[r.addr] = r.since
	a.eachSpan(r.addr, func(s *span) {
		s.take(r.addr)
		if s.avoids(r.addr) { // adopted or requested before the pool avoided it: never given out again
			return
		}
		s.resting = append(s.resting, r)
	})
}

// longestRest returns how long addr rests in that of its pools where it does so longest, or the default if it has none.
func (a *Allocator) longestRest(addr netip.Addr) time.Duration {
	longest, held := time.Duration(0), false
	a.eachSpan(addr, func(s *span) { longest, held = max(longest, s.restFor), true })
	if !held {
		return a.restFor
	}
	return longest
}

// tired returns the addresses that rest at the given time in any pool, in the order in which they were freed.
func (a *Allocator) tired(now time.Time) []rest {
	out := make([]rest, 0, len(a.resting))
	for addr, since := range a.resting {
		if since.Add(a.longestRest(addr)).After(now) {
			out = append(out, rest{addr, since})
		}
	}
	slices.SortFunc(out, func(x, y rest) int { return cmp.Or(x.since.Compare(y.since), x.addr.Compare(y.addr)) })
	return out
}

// next returns the address of the family that p gives out next: the lowest that is free, and that it is, else the one that
// has rested longest of those that are not in got.
func (a *Allocator) next(p *pool, family lb.Family, now time.Time, got []netip.Addr) (addr netip.Addr, free, ok bool) {
	var tired rest
	for _, s := range p.spans {
		if lb.FamilyOf(s.From) != family {
			continue
		}
		a.wake(s, now)
		if addr, ok := s.lowest(); ok {
			return addr, true, true
		}
		for _, r := range s.resting { // the head, unless it is in got
			if slices.Contains(got, r.addr) || a.outdated(r) {
				continue
			}
			if !tired.addr.IsValid() || r.since.Before(tired.since) {
				tired = r
			}
			break
		}
	}
	return tired.addr, false, tired.addr.IsValid()
}

// outdated reports whether the address of an entry in a queue was given out meanwhile; if it was freed again, a later entry
// counts.
func (a *Allocator) outdated(r rest) bool {
	since, resting := a.resting[r.addr]
	return !a.owners[r.addr].empty() || resting && since.After(r.since)
}

// wake gives back the addresses whose rest is over, and leaves at the head of the span's queue the one that has rested
// longest of those that still do.
func (a *Allocator) wake(s *span, now time.Time) {
	for i, r := range s.resting {
		switch {
		case a.outdated(r):
		case r.since.Add(s.restFor).After(now):
			s.resting = s.resting[i:]
			return
		default:
			s.giveBack(r.addr)
			if !r.since.Add(a.longestRest(r.addr)).After(now) { // else it rests on in another pool
				delete(a.resting, r.addr)
			}
		}
	}
	s.resting = s.resting[:0] // its memory is used again
}
