package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// world drives an allocator through a random history and judges every answer by plain scans over all addresses. A twin that
// learns the same in another order must give the same answers.
type world struct {
	t        testing.TB
	a, twin  *Allocator
	now      time.Time
	pools    []lb.Pool
	services map[lb.ServiceKey]lb.Service // the status of each is what the allocator said last
	freed    map[netip.Addr]time.Time     // when an address lost its last owner
	quota    map[string]int               // of a namespace over all pools, 0 = none
	random   func(n int) int
}

func newWorld(t testing.TB, random func(n int) int) *world {
	return &world{
		t: t, a: New(restTime), twin: New(restTime), now: epoch, random: random,
		services: map[lb.ServiceKey]lb.Service{}, freed: map[netip.Addr]time.Time{}, quota: map[string]int{},
	}
}

// setPools tells the twin the other way round.
func (w *world) setPools() {
	w.a.SetPools(w.pools, w.now)
	backwards := slices.Clone(w.pools)
	slices.Reverse(backwards)
	w.twin.SetPools(backwards, w.now)
}

// ask has both allocators decide.
func (w *world) ask(s lb.Service) (Assignment, lb.Refusal) {
	got, refusal := w.a.Ensure(s, w.now)
	if other, otherRefusal := w.twin.Ensure(s, w.now); other.Pool != got.Pool || !slices.Equal(other.Addrs, got.Addrs) || other.Freed != got.Freed || otherRefusal != refusal {
		w.t.Fatalf("%s got %+v (%s), but where the order was another %+v (%s)", s.Key, got, refusal, other, otherRefusal)
	}
	return got, refusal
}

func (w *world) chance(percent int) bool { return w.random(100) < percent }

// randomPools returns pools out of a few small, partly overlapping ranges.
func (w *world) randomPools() []lb.Pool {
	var out []lb.Pool
	for i := range 4 {
		if w.chance(25) {
			continue
		}
		first := byte(w.random(20))
		last := first + byte(w.random(6))
		p := newPoolNamed(fmt.Sprint("p", i), fmt.Sprintf("192.0.2.%d-192.0.2.%d", first, last))
		if w.chance(50) {
			p.Ranges = append(p.Ranges, rangeOf(fmt.Sprintf("2001:db8::%x", first), fmt.Sprintf("2001:db8::%x", last)))
		}
		p.AutoAssign = w.chance(90)
		p.AvoidBuggyIPs = w.chance(30)
		if w.chance(40) {
			p.MaxPerNamespace = 1 + w.random(3)
		}
		p.ShareAcross = w.chance(50)
		p.Priority = w.random(3)
		if w.chance(50) {
			rest := time.Duration(w.random(4)*30) * time.Second
			p.Rest = &rest
		}
		out = append(out, p)
	}
	return out
}

// wish makes or changes a Service.
func (w *world) wish() lb.Service {
	s := service(fmt.Sprint("s", w.random(12)))
	s.Key.Namespace = fmt.Sprint("n", w.random(2))
	s.Quota = lb.Quota{Max: w.quota[s.Key.Namespace], Source: "the quota"}
	if old, ok := w.services[s.Key]; ok {
		s.Ingress, s.Pool = old.Ingress, old.Pool
		old.Quota = s.Quota
		switch w.random(4) {
		case 0, 1:
			return old
		case 2:
			old.PerFamily = w.random(4)
			return old
		}
	}
	if w.chance(25) {
		s.PerFamily = w.random(4)
	}
	switch w.random(5) {
	case 0:
		dual(lb.RequireDualStack)(&s)
	case 1:
		dual(lb.PreferDualStack, lb.IPv6, lb.IPv4)(&s)
	case 2:
		dual(lb.SingleStack, lb.IPv6)(&s)
	}
	if w.chance(15) {
		asks(fmt.Sprintf("192.0.2.%d", w.random(26)))(&s)
		if second := netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", w.random(26))); w.chance(30) && second != s.RequestedAddrs[0] {
			s.RequestedAddrs = append(s.RequestedAddrs, second)
		}
	}
	if w.chance(15) {
		fromPool(fmt.Sprint("p", w.random(4)))(&s)
	}
	if w.chance(30) {
		shares(fmt.Sprint("k", w.random(2)))(&s)
	}
	if w.chance(20) {
		localPods(fmt.Sprint("app=", w.random(2)))(&s)
	}
	port(uint16(80 + w.random(3)))(&s)
	s.Release = w.chance(10)
	return s
}

func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.random(20))*time.Second + 1) // no two events at once
	switch n := w.random(21); {
	case n == 0:
		w.forgetRested()
		w.pools = w.randomPools()
		w.setPools()
		w.ensureAllAgain("an edit of the pools")
	case n == 1:
		w.restart()
	case n == 20:
		w.quota[fmt.Sprint("n", w.random(2))] = w.random(6)
		w.ensureAllAgain("an edit of a quota")
	case n < 6 && len(w.services) > 0:
		keys := slices.SortedFunc(mapKeys(w.services), lb.ServiceKey.Compare)
		key := keys[w.random(len(keys))]
		w.a.Release(key, w.now)
		w.twin.Release(key, w.now)
		w.setStatus(w.services[key], Assignment{})
		delete(w.services, key)
	default:
		w.ensure(w.wish())
	}
	w.checkOwners()
}

func mapKeys(m map[lb.ServiceKey]lb.Service) func(func(lb.ServiceKey) bool) {
	return func(yield func(lb.ServiceKey) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// ensure asks the allocator and judges a fresh, plain allocation.
func (w *world) ensure(s lb.Service) {
	plain := len(s.Ingress) == 0 && len(s.RequestedAddrs) == 0 && s.RequestedPool == "" && s.SharingKey == "" && s.FamilyPolicy == lb.SingleStack && s.PerFamily <= 1
	want, poolName := netip.Addr{}, ""
	if plain {
		want, poolName = w.expect(s.Key.Namespace, s.Families[0])
	}
	got, refusal := w.ask(s)
	if plain && (len(got.Addrs) == 1) != want.IsValid() || len(got.Addrs) == 1 && plain && (got.Addrs[0] != want || got.Pool != poolName) {
		w.t.Fatalf("%s got %v of %q (%s), want %s of %q", s.Key, got.Addrs, got.Pool, refusal, want, poolName)
	}
	if refusal.OK() == (len(got.Addrs) == 0) && refusal.Reason != lb.AddressOutsidePools && len(got.Addrs) == 0 {
		w.t.Fatalf("%s got nothing and no reason", s.Key)
	}
	w.checkJoined(s, got)
	w.checkNumber(s, got, refusal)
	if before := s.Addrs(); s.Release && len(before) > 0 && refusal.OK() && len(s.RequestedAddrs) == 0 {
		for _, addr := range got.Addrs {
			if slices.Contains(before, addr) && w.owners(addr) == 1 {
				w.t.Fatalf("%s has %s again after its release", s.Key, addr)
			}
		}
	}
	s.Release = s.Release && !refusal.OK()
	w.setStatus(s, got)
}

// expect is the plain rule: the first pool with a free address and room in its quota; there the lowest that does not rest, else the one freed
// first.
func (w *world) expect(namespace string, family lb.Family) (netip.Addr, string) {
	if limit := w.quota[namespace]; limit > 0 && w.usedOf(namespace, lb.Pool{}, true) >= limit {
		return netip.Addr{}, ""
	}
	for _, p := range slices.SortedFunc(slices.Values(w.pools), byPreference) {
		if !p.AutoAssign || p.MaxPerNamespace > 0 && w.used(namespace, p) >= p.MaxPerNamespace {
			continue
		}
		var tired netip.Addr
		for _, r := range p.Ranges {
			for addr := r.From; lb.FamilyOf(r.From) == family && addr.Compare(r.To) <= 0; addr = addr.Next() {
				if w.owners(addr) > 0 || p.AvoidBuggyIPs && buggy(addr) {
					continue
				}
				freed, ok := w.freed[addr]
				if !ok || w.now.Sub(freed) >= restOf(p) {
					return addr, p.Name
				}
				if !tired.IsValid() || freed.Before(w.freed[tired]) {
					tired = addr
				}
			}
		}
		if tired.IsValid() {
			return tired, p.Name
		}
	}
	return netip.Addr{}, ""
}

func restOf(p lb.Pool) time.Duration {
	if p.Rest == nil {
		return restTime
	}
	return *p.Rest
}

// forgetRested drops what does not rest any more in any of its pools: new pools do not put it to rest again.
func (w *world) forgetRested() {
	for addr, since := range w.freed {
		longest, held := time.Duration(0), false
		for _, p := range w.pools {
			if p.Contains(addr) {
				longest, held = max(longest, restOf(p)), true
			}
		}
		if !held {
			longest = restTime
		}
		if w.now.Sub(since) >= longest {
			delete(w.freed, addr)
		}
	}
}

// used counts the addresses of p that Services of the namespace own.
func (w *world) used(namespace string, p lb.Pool) int { return w.usedOf(namespace, p, false) }

// usedOf counts those of every pool and none if all is set.
func (w *world) usedOf(namespace string, p lb.Pool, all bool) int {
	seen := map[netip.Addr]bool{}
	for key, s := range w.services {
		for _, addr := range s.Addrs() {
			if key.Namespace == namespace && (all || p.Contains(addr)) {
				seen[addr] = true
			}
		}
	}
	return len(seen)
}

func (w *world) owners(addr netip.Addr) int {
	n := 0
	for _, s := range w.services {
		if s.HasAddr(addr) {
			n++
		}
	}
	return n
}

// setStatus records what the allocator said.
func (w *world) setStatus(s lb.Service, got Assignment) {
	before := w.services[s.Key].Addrs()
	has(got.Pool)(&s)
	for _, addr := range got.Addrs {
		s.Ingress = append(s.Ingress, lb.Ingress{Addr: addr, Mode: lb.ModeProxy})
	}
	used, usedAll := map[string]int{}, w.usedOf(s.Key.Namespace, lb.Pool{}, true)
	for _, p := range w.pools {
		used[p.Name] = w.used(s.Key.Namespace, p)
	}
	w.services[s.Key] = s
	if n := w.usedOf(s.Key.Namespace, lb.Pool{}, true); s.Quota.Max > 0 && n > s.Quota.Max && n > usedAll {
		w.t.Fatalf("%s was given the %dth address of its namespace, whose quota is %d", s.Key, n, s.Quota.Max)
	}
	for _, p := range w.pools {
		if n := w.used(s.Key.Namespace, p); p.Name == got.Pool && p.MaxPerNamespace > 0 && n > p.MaxPerNamespace && n > used[p.Name] {
			w.t.Fatalf("%s was given the %dth address of pool %q, which allows its namespace %d", s.Key, n, p.Name, p.MaxPerNamespace)
		}
	}
	freed := false
	for _, addr := range before {
		freed = freed || !slices.Contains(got.Addrs, addr)
		if w.owners(addr) == 0 {
			w.freed[addr] = w.now
		}
	}
	if got.Addrs != nil && freed != got.Freed {
		w.t.Fatalf("%s: freed = %v, want %v", s.Key, got.Freed, freed)
	}
	for _, addr := range got.Addrs {
		delete(w.freed, addr)
	}
}

// ensureAllAgain asks for every Service without a change of its own: nobody may lose or swap an address. It returns what each
// has and is told afterwards.
func (w *world) ensureAllAgain(after string) string {
	var state strings.Builder
	for _, key := range slices.SortedFunc(mapKeys(w.services), lb.ServiceKey.Compare) {
		s := w.services[key]
		s.Quota.Max = w.quota[key.Namespace]
		got, refusal := w.ask(s)
		released := s.Release && refusal.OK()
		s.Release = s.Release && !released
		for _, addr := range s.Addrs() {
			if !slices.Contains(got.Addrs, addr) && !released && len(s.RequestedAddrs) == 0 && s.RequestedPool == "" {
				w.t.Fatalf("%s lost %s to %s, now has %v", key, addr, after, got.Addrs)
			}
		}
		w.setStatus(s, got)
		fmt.Fprintln(&state, key, got.Addrs, got.Pool, refusal)
	}
	return state.String()
}

// restart has both allocators begin anew from what the statuses say, each in an order of its own. Once nobody moves any more
// without a restart, nobody does by one.
func (w *world) restart() {
	before, settled := w.ensureAllAgain("another look"), false
	for turns := 0; !settled; turns++ {
		now := w.ensureAllAgain("another look")
		if settled = now == before; turns > 50 {
			w.t.Fatalf("no end of changes:\n%s", now)
		}
		before = now
	}
	w.a, w.twin = New(restTime), New(restTime)
	clear(w.freed) // rest is not remembered over a restart
	w.setPools()
	for _, a := range []*Allocator{w.a, w.twin} {
		keys := slices.SortedFunc(mapKeys(w.services), lb.ServiceKey.Compare)
		for i := range keys {
			j := w.random(i + 1)
			keys[i], keys[j] = keys[j], keys[i]
		}
		for _, key := range keys {
			if refusal := a.Adopt(w.services[key]); !refusal.OK() {
				w.t.Fatalf("adopting %s: %s", key, refusal)
			}
		}
	}
	if now := w.ensureAllAgain("a restart"); now != before {
		w.t.Fatalf("a restart has changed\n%sto\n%s", before, now)
	}
}
