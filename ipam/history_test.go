package ipam

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

// checkNumber verifies that s has as many addresses as it wants, or is told that it has fewer, and that where nothing but
// their number was changed the first ones stayed.
func (w *world) checkNumber(s lb.Service, got Assignment, refusal lb.Refusal) {
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		n, wants := lb.CountOf(got.Addrs, f), max(1, s.PerFamily, lb.CountOf(s.RequestedAddrs, f))
		if n > wants || n > 0 && n < wants && (refusal.OK() || refusal.Reason == lb.AddressOutsidePools) {
			w.t.Fatalf("%s has %d of %d %s addresses (%s)", s.Key, n, wants, f, refusal)
		}
	}
	old, ok := w.services[s.Key]
	before := old.Addrs()
	old.PerFamily, old.Quota, old.Ingress, old.Pool = s.PerFamily, s.Quota, s.Ingress, s.Pool
	if !ok || s.Release || len(s.RequestedAddrs) > 0 || s.RequestedPool != "" || !reflect.DeepEqual(old, s) {
		return
	}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		had, have := only(f, before), only(f, got.Addrs)
		if n := min(len(had), len(have)); !slices.Equal(had[:n], have[:n]) {
			w.t.Fatalf("%s had %v and has %v, though only the number was changed", s.Key, before, got.Addrs)
		}
	}
}

func only(f lb.Family, addrs []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(addr netip.Addr) bool { return lb.FamilyOf(addr) != f })
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

// checkOwners verifies that sharing is the only way to have one address twice.
func (w *world) checkOwners() {
	for k1, s1 := range w.services {
		for k2, s2 := range w.services {
			for _, addr := range s1.Addrs() {
				if k1 == k2 || !s2.HasAddr(addr) {
					continue
				}
				common := slices.ContainsFunc(s1.Ports, func(p lb.Port) bool {
					return slices.ContainsFunc(s2.Ports, func(q lb.Port) bool { return idOf(p) == idOf(q) })
				})
				if id := sharingID(&s1); id == "" || id != sharingID(&s2) || common {
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
