package bgp

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func TestDiffLeadsFromOneToTheOther(t *testing.T) {
	seed := rand.Uint64()
	dice := rand.New(rand.NewPCG(seed, 1))
	draw := func() (out []Path) {
		for i := range 40 {
			if dice.IntN(2) == 0 {
				continue
			}
			addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
			if i%3 == 0 {
				addr = netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)})
			}
			out = append(out, Path{Prefix: netip.PrefixFrom(addr, addr.BitLen()), LocalPref: uint32(dice.IntN(2))})
		}
		slices.SortFunc(out, func(a, b Path) int { return a.Prefix.Compare(b.Prefix) })
		return out
	}
	for range 500 {
		have, want := draw(), draw()
		gone, fresh := Diff(have, want)
		if got := Apply(have, gone, fresh); !slices.EqualFunc(got, want, Path.Equal) {
			t.Fatalf("seed %d: from %v\nto %v\nwithdraw %v announce %v\nleads to %v", seed, have, want, gone, fresh, got)
		}
		for _, p := range fresh {
			if slices.ContainsFunc(have, p.Equal) {
				t.Fatalf("seed %d: %s is announced again though nothing has changed", seed, p)
			}
		}
	}
}
