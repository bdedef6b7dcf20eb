package nft

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// TestMapsAreLookedIntoAtOnePlace: what a change costs the kernel must not grow with the square of anything. A verdict map is looked into by
// one rule, and by none that an element of such a map leads to; a map with values by no rule of which there is one for each Service.
func TestMapsAreLookedIntoAtOnePlace(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, forward := range []bool{false, true} {
		table := (&fake{}).open(t, forward)
		for range 100 {
			s := randomState(r)
			all, servers := table.frame(s.Pods, tunnelsOf(s)), table.render(s)
			maps.Copy(all.chains, servers.chains)
			lookups := map[string]int{}
			for name, c := range all.chains {
				for _, rule := range c.rules {
					for _, e := range rule {
						l, ok := e.(*expr.Lookup)
						switch {
						case !ok || !l.IsDestRegSet:
						case l.DestRegister == unix.NFT_REG_VERDICT:
							lookups[l.SetName]++
						case strings.Contains(name, "sticky"):
							t.Errorf("chain %s takes a value out of %s", name, l.SetName)
						}
					}
				}
			}
			for name, set := range all.sets {
				if n := lookups[name]; set.verdicts && n != 1 {
					t.Errorf("%d rules look into %s", n, name)
				}
			}
			for p, chain := range servers.elements {
				if where := looksInto(all, chain); all.sets[p.set].verdicts && where != "" {
					t.Errorf("an element of %s leads to %s, and that to %s", p.set, chain, where)
				}
			}
			if t.Failed() {
				t.Fatal(s)
			}
		}
	}
}

// looksInto returns a verdict map that a packet in the chain may be looked up in; "" if there is none.
func looksInto(r ruleset, chain string) string {
	for _, rule := range r.chains[chain].rules {
		for _, e := range rule {
			switch e := e.(type) {
			case *expr.Lookup:
				if e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT {
					return e.SetName
				}
			case *expr.Verdict:
				if e.Chain != "" {
					if where := looksInto(r, e.Chain); where != "" {
						return where
					}
				}
			}
		}
	}
	return ""
}
