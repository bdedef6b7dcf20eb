package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// count adds n to what the namespace uses of all pools together, and of every pool with a quota that holds addr.
func (a *Allocator) count(addr netip.Addr, namespace string, n int) {
	add(a.used, namespace, n)
	for _, p := range a.pools {
		if p.MaxPerNamespace > 0 && p.Contains(addr) {
			add(p.used, namespace, n)
		}
	}
}

// add adds n to what m has at key, and forgets a zero.
func add(m map[string]int, key string, n int) {
	if m[key] += n; m[key] == 0 {
		delete(m, key)
	}
}

// room says whether r may own addrs instead of what it owns, by the quota of p, which would serve them, and that of all
// pools together. Whoever takes no more than it gives up may, even where a quota was lowered below what is in use.
func (a *Allocator) room(r *request, p *pool, addrs []netip.Addr) lb.Refusal {
	namespace, owned := r.Key.Namespace, a.leases[r.Key].addrs
	if limit := p.MaxPerNamespace; limit > 0 {
		has, wants := a.burden(r.Key, owned, p), a.burden(r.Key, addrs, p)
		if wants > has && p.used[namespace]-has+wants > limit {
			return lb.Refusal{Reason: lb.QuotaExceeded, Message: fmt.Sprintf(
				"namespace %q owns %d addresses of pool %q, which allows it %d, and this Service wants %d more; delete a Service there, share an address, or raise spec.serviceAllocation.maxAddressesPerNamespace of the pool",
				namespace, p.used[namespace], p.Name, limit, wants-has)}
		}
	}
	if limit := r.Quota.Max; limit > 0 {
		has, wants := a.burden(r.Key, owned, nil), a.burden(r.Key, addrs, nil)
		if wants > has && a.used[namespace]-has+wants > limit {
			return lb.Refusal{Reason: lb.QuotaExceeded, Message: fmt.Sprintf(
				"namespace %q owns %d addresses of all pools together, its quota is %d, and this Service wants %d more; delete a Service there, share an address, or raise %s",
				namespace, a.used[namespace], limit, wants-has, r.Quota.Source)}
		}
	}
	return lb.Refusal{}
}

// burden returns how many of addrs, in which some may be listed twice, count against a quota of the namespace for the sake
// of the Service alone: against that of p, or of all pools if p is nil.
func (a *Allocator) burden(key lb.ServiceKey, addrs []netip.Addr, p *pool) int {
	n := 0
	for i, addr := range addrs {
		if (p == nil || p.Contains(addr)) && !slices.Contains(addrs[:i], addr) && a.owners[addr].neighbours(key) == 0 {
			n++
		}
	}
	return n
}

// QuotaUse is what a namespace owns where a quota limits it.
type QuotaUse struct {
	Pool, Namespace string // no Pool for all together
	Used, Limit     int
}

// QuotaUse returns the use of the pools' quotas, by pool and namespace, and without a limit that of all pools together:
// what a namespace may own of these, each Service says. Namespaces that own nothing are left out.
func (a *Allocator) QuotaUse() []QuotaUse {
	var out []QuotaUse
	for _, namespace := range slices.Sorted(maps.Keys(a.used)) {
		out = append(out, QuotaUse{Namespace: namespace, Used: a.used[namespace]})
	}
	for _, p := range a.pools {
		for _, namespace := range slices.Sorted(maps.Keys(p.used)) {
			out = append(out, QuotaUse{Pool: p.Name, Namespace: namespace, Used: p.used[namespace], Limit: p.MaxPerNamespace})
		}
	}
	return out
}
