package admission

import (
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// without returns the parts of r that are in none of taken.
func without(r lb.Range, taken []lb.Range) []lb.Range {
	left := []lb.Range{r}
	for _, t := range taken {
		var next []lb.Range
		for _, part := range left {
			next = append(next, cut(part, t)...)
		}
		left = next
	}
	return left
}

// cut returns the parts of r that are not in t: none, one or two.
func cut(r, t lb.Range) []lb.Range {
	common, ok := intersection(r, t)
	if !ok {
		return []lb.Range{r}
	}
	var out []lb.Range
	if r.From.Less(common.From) {
		out = append(out, lb.Range{From: r.From, To: common.From.Prev()})
	}
	if common.To.Less(r.To) {
		out = append(out, lb.Range{From: common.To.Next(), To: r.To})
	}
	return out
}

// intersection returns what is in both ranges. Addresses of one family compare below all of the other's, so that ranges of
// different families have nothing in common.
func intersection(a, b lb.Range) (lb.Range, bool) {
	from, to := a.From, a.To
	if from.Less(b.From) {
		from = b.From
	}
	if b.To.Less(to) {
		to = b.To
	}
	return lb.Range{From: from, To: to}, from.IsValid() && !to.Less(from)
}

// first returns the first part of the ranges that any of others has too.
func first(ranges, others []lb.Range) (lb.Range, bool) {
	for _, r := range ranges {
		for _, o := range others {
			if common, ok := intersection(r, o); ok {
				return common, true
			}
		}
	}
	return lb.Range{}, false
}

// text writes a range of one address as that address.
func text(r lb.Range) string {
	if r.From == r.To {
		return r.From.String()
	}
	return r.String()
}

// contains reports whether one of the ranges holds addr.
func contains(ranges []lb.Range, addr netip.Addr) bool {
	_, ok := first([]lb.Range{{From: addr, To: addr}}, ranges)
	return ok
}
