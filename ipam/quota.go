package ipam

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// inNamespace reports whether one of keys is a Service of the namespace.
func inNamespace(keys []lb.ServiceKey, namespace string) bool {
	return slices.ContainsFunc(keys, func(k lb.ServiceKey) bool { return k.Namespace == namespace })
}

// count adds n to what the namespace uses of every pool with a quota that holds addr.
func (a *Allocator) count(addr netip.Addr, namespace string, n int) {
	for _, p := range a.pools {
		if p.MaxPerNamespace == 0 || !p.Contains(addr) {
			continue
		}
		if p.used[namespace] += n; p.used[namespace] == 0 {
			delete(p.used, namespace)
		}
	}
}

// room says whether r may own addrs instead of what it owns, by the quota of p, which would serve them, for its namespace. Whoever takes no more than it
// gives up may, even where the quota was lowered below what is in use.
func (a *Allocator) room(r request, p *pool, addrs []netip.Addr) lb.Refusal {
	if p.MaxPerNamespace == 0 {
		return lb.Refusal{}
	}
	namespace := r.Key.Namespace
	has, wants := a.burden(r.Key, p, a.leases[r.Key].addrs), a.burden(r.Key, p, addrs)
	if wants <= has || p.used[namespace]-has+wants <= p.MaxPerNamespace {
		return lb.Refusal{}
	}
	return lb.Refusal{Reason: lb.QuotaExceeded, Message: fmt.Sprintf(
		"namespace %q owns %d addresses of pool %q, which allows it %d, and this Service wants %d more; delete a Service there, share an address, or raise spec.serviceAllocation.maxAddressesPerNamespace of the pool",
		namespace, p.used[namespace], p.Name, p.MaxPerNamespace, wants-has)}
}

// burden returns how many of addrs, in which some may be listed twice, count against the namespace's quota of p for the
// sake of the Service alone.
func (a *Allocator) burden(key lb.ServiceKey, p *pool, addrs []netip.Addr) int {
	n := 0
	for i, addr := range addrs {
		neighbour := func(k lb.ServiceKey) bool { return k != key && k.Namespace == key.Namespace }
		if p.Contains(addr) && !slices.Contains(addrs[:i], addr) && !slices.ContainsFunc(a.owners[addr], neighbour) {
			n++
		}
	}
	return n
}
