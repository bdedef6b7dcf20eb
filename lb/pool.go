package lb

import (
	"net/netip"
	"slices"
	"time"
)

// Range is an inclusive span of addresses of one family.
type Range struct {
	From, To netip.Addr
}

// Contains reports whether addr lies in the range.
func (r Range) Contains(addr netip.Addr) bool {
	return r.From.Compare(addr) <= 0 && addr.Compare(r.To) <= 0 && r.From.Is4() == addr.Is4()
}

// String returns "from-to".
func (r Range) String() string { return r.From.String() + "-" + r.To.String() }

// Pool is an IPAddressPool, its ranges parsed and its selectors ready to use.
type Pool struct {
	Name              string
	Labels            map[string]string
	Ranges            []Range // in the order of spec.addresses, never overlapping within a pool
	AutoAssign        bool
	AvoidBuggyIPs     bool
	Rest              *time.Duration // how long a freed address is the last to be given out; nil = the allocator's default
	ShareAcross       bool           // Services of different namespaces may share an address
	MaxPerNamespace   int            // addresses that the Services of one namespace may own; 0 = any number
	Priority          int            // 1 = best, bigger = worse, 0 = unset = last
	Forwarding        Method         // of Services that do not say; "" = what the operator says for all
	Namespaces        []string       // with NamespaceSelectors: the Service's namespace must match one of either
	NamespaceSelector []Selector     // alternatives
	ServiceSelectors  []Selector     // alternatives; empty = every Service

	History []Sample // of its use, the oldest first; only where somebody asks how long it will last
}

// Sample is how many addresses of a pool were in use at a time.
type Sample struct {
	At         time.Time
	IPv4, IPv6 int64
}

// Contains reports whether addr is in one of the pool's ranges.
func (p Pool) Contains(addr netip.Addr) bool {
	for _, r := range p.Ranges {
		if r.Contains(addr) {
			return true
		}
	}
	return false
}

// Pinned reports whether the pool is meant for certain namespaces or Services only.
func (p Pool) Pinned() bool {
	return len(p.Namespaces)+len(p.NamespaceSelector)+len(p.ServiceSelectors) > 0
}

// Admits reports whether the pool's serviceAllocation lets s take an address from it.
func (p Pool) Admits(s Service) bool {
	inNamespace := len(p.Namespaces)+len(p.NamespaceSelector) == 0
	for _, ns := range p.Namespaces {
		inNamespace = inNamespace || ns == s.Key.Namespace
	}
	inNamespace = inNamespace || len(p.NamespaceSelector) > 0 && MatchesAny(p.NamespaceSelector, s.NamespaceLabels)
	return inNamespace && MatchesAny(p.ServiceSelectors, s.Labels)
}

// L2Advertisement says which pools may be announced by ARP and NDP, from which nodes and interfaces. An empty list means no
// restriction; several selectors are alternatives.
type L2Advertisement struct {
	Name             string
	Pools            []string // with PoolSelectors: the union; both empty = every pool
	PoolSelectors    []Selector
	NodeSelectors    []Selector
	ServiceSelectors []Selector
	Interfaces       []string
	Preferred        []Preference

	// Failback is how long a better node must have been steady before a living owner hands an address over to it; nil = it
	// keeps the address for as long as it can.
	Failback *time.Duration
}

// Preference adds Weight (1 to 100) to the score of nodes that match.
type Preference struct {
	Weight   int
	Selector Selector
}

// Covers reports whether the advertisement is about addresses of pool p that belong to s.
func (a L2Advertisement) Covers(p Pool, s Service) bool {
	return selects(a.Pools, a.PoolSelectors, p) && MatchesAny(a.ServiceSelectors, s.Labels)
}

// selects reports whether an advertisement with these names and selectors is about p; without any of either it is about all.
func selects(names []string, selectors []Selector, p Pool) bool {
	switch {
	case len(names)+len(selectors) == 0:
		return true
	case slices.Contains(names, p.Name):
		return true
	}
	return len(selectors) > 0 && MatchesAny(selectors, p.Labels)
}
