package ipam

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// world drives an allocator through a random history and judges every answer by plain scans over all addresses.
type world struct {
	t        testing.TB
	a        *Allocator
	now      time.Time
	pools    []lb.Pool
	services map[lb.ServiceKey]lb.Service // the status of each is what the allocator said last
	freed    map[netip.Addr]time.Time     // when an address lost its last owner
	random   func(n int) int
}

func newWorld(t testing.TB, random func(n int) int) *world {
	return &world{t: t, a: New(restTime), now: epoch, services: map[lb.ServiceKey]lb.Service{}, freed: map[netip.Addr]time.Time{}, random: random}
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
	if old, ok := w.services[s.Key]; ok {
		s.Ingress, s.Pool = old.Ingress, old.Pool
		if w.chance(50) {
			return old
		}
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
	switch n := w.random(20); {
	case n == 0:
		w.forgetRested()
		w.pools = w.randomPools()
		w.a.SetPools(w.pools, w.now)
		w.ensureAllAgain("an edit of the pools")
	case n == 1:
		w.restart()
	case n < 6 && len(w.services) > 0:
		keys := slices.SortedFunc(mapKeys(w.services), lb.ServiceKey.Compare)
		key := keys[w.random(len(keys))]
		w.a.Release(key, w.now)
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
	plain := len(s.Ingress) == 0 && len(s.RequestedAddrs) == 0 && s.RequestedPool == "" && s.SharingKey == "" && s.FamilyPolicy == lb.SingleStack
	want, poolName := netip.Addr{}, ""
	if plain {
		want, poolName = w.expect(s.Key.Namespace, s.Families[0])
	}
	got, refusal := w.a.Ensure(s, w.now)
	if plain && (len(got.Addrs) == 1) != want.IsValid() || len(got.Addrs) == 1 && plain && (got.Addrs[0] != want || got.Pool != poolName) {
		w.t.Fatalf("%s got %v of %q (%s), want %s of %q", s.Key, got.Addrs, got.Pool, refusal, want, poolName)
	}
	if refusal.OK() == (len(got.Addrs) == 0) && refusal.Reason != lb.AddressOutsidePools && len(got.Addrs) == 0 {
		w.t.Fatalf("%s got nothing and no reason", s.Key)
	}
	w.checkJoined(s, got)
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

// checkJoined verifies that s has joined nobody of another namespace where no pool allows it.
func (w *world) checkJoined(s lb.Service, got Assignment) {
	for _, addr := range got.Addrs {
		for key, other := range w.services {
			allowed := slices.ContainsFunc(w.pools, func(p lb.Pool) bool { return p.ShareAcross && p.Contains(addr) })
			if key.Namespace != s.Key.Namespace && other.HasAddr(addr) && !s.HasAddr(addr) && !allowed {
				w.t.Fatalf("%s has joined %s at %s", s.Key, key, addr)
			}
		}
	}
}

// expect is the plain rule: the first pool with a free address and room in its quota; there the lowest that does not rest, else the one freed
// first.
func (w *world) expect(namespace string, family lb.Family) (netip.Addr, string) {
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
func (w *world) used(namespace string, p lb.Pool) int {
	seen := map[netip.Addr]bool{}
	for key, s := range w.services {
		for _, addr := range s.Addrs() {
			if key.Namespace == namespace && p.Contains(addr) {
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
	used := map[string]int{}
	for _, p := range w.pools {
		used[p.Name] = w.used(s.Key.Namespace, p)
	}
	w.services[s.Key] = s
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

// ensureAllAgain asks for every Service without a change of its own: nobody may lose or swap an address.
func (w *world) ensureAllAgain(after string) {
	for _, key := range slices.SortedFunc(mapKeys(w.services), lb.ServiceKey.Compare) {
		s := w.services[key]
		got, refusal := w.a.Ensure(s, w.now)
		released := s.Release && refusal.OK()
		s.Release = s.Release && !released
		for _, addr := range s.Addrs() {
			if !slices.Contains(got.Addrs, addr) && !released && len(s.RequestedAddrs) == 0 && s.RequestedPool == "" {
				w.t.Fatalf("%s lost %s to %s, now has %v", key, addr, after, got.Addrs)
			}
		}
		w.setStatus(s, got)
	}
}

func (w *world) restart() {
	w.a = New(restTime)
	clear(w.freed) // rest is not remembered over a restart
	keys := slices.SortedFunc(mapKeys(w.services), lb.ServiceKey.Compare)
	for i := range keys {
		j := w.random(i + 1) // whatever the order
		keys[i], keys[j] = keys[j], keys[i]
	}
	w.a.SetPools(w.pools, w.now)
	for _, key := range keys {
		if refusal := w.a.Adopt(w.services[key]); !refusal.OK() {
			w.t.Fatalf("adopting %s: %s", key, refusal)
		}
	}
	w.ensureAllAgain("a restart")
}

// checkOwners verifies that sharing is the only way to have one address twice.
func (w *world) checkOwners() {
	for k1, s1 := range w.services {
		for k2, s2 := range w.services {
			for _, addr := range s1.Addrs() {
				if k1 == k2 || !s2.HasAddr(addr) {
					continue
				}
				_, common := commonPort(s1.Ports, s2.Ports)
				if id := sharingID(s1); id == "" || id != sharingID(s2) || common {
					w.t.Fatalf("%s is owned by %+v and %+v", addr, s1, s2)
				}
			}
		}
	}
}

func TestRandomHistories(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, rand.New(rand.NewPCG(seed, 1)).IntN)
			for range 150 {
				w.step()
			}
		})
	}
}

// FuzzHistory lets the fuzzer play the dice.
func FuzzHistory(f *testing.F) {
	f.Add([]byte("0 an edit of the pools comes first, then some Services"))
	f.Add([]byte{0, 0, 1, 5, 4, 60, 99, 99, 0, 9, 8, 7, 6, 5, 4, 3, 2, 1, 200, 100, 50, 25, 12, 6, 3})
	f.Fuzz(func(t *testing.T, dice []byte) {
		w := newWorld(t, func(n int) int {
			if len(dice) == 0 {
				return 0
			}
			x := int(dice[0]) % n
			dice = dice[1:]
			return x
		})
		for len(dice) > 0 {
			w.step()
		}
	})
}
