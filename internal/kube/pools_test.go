package kube

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

// TestOverlapsFindsWhatComparingAllFinds compares with the plain rule: every range with every other.
func TestOverlapsFindsWhatComparingAllFinds(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var pools []lb.Pool
		for i := range random.IntN(6) {
			p := lb.Pool{Name: fmt.Sprint("p", i)}
			for range random.IntN(5) {
				format, from := "192.0.2.%d", random.IntN(100)
				if random.IntN(3) == 0 {
					format = "2001:db8::%x"
				}
				r := lb.Range{From: addr(fmt.Sprintf(format, from)), To: addr(fmt.Sprintf(format, from+random.IntN(15)))}
				if !slices.ContainsFunc(p.Ranges, func(o lb.Range) bool { return overlap(o, r) }) { // as Pool sees to
					p.Ranges = append(p.Ranges, r)
				}
			}
			pools = append(pools, p)
		}
		want := map[string][]string{}
		for _, a := range pools {
			for _, b := range pools {
				if a.Name != b.Name && slices.ContainsFunc(a.Ranges, func(r lb.Range) bool {
					return slices.ContainsFunc(b.Ranges, func(o lb.Range) bool { return overlap(o, r) })
				}) {
					want[a.Name] = append(want[a.Name], b.Name)
				}
			}
		}
		if diff := cmp.Diff(want, Overlaps(pools)); diff != "" {
			t.Fatalf("seed %d: %+v: -want +got:\n%s", seed, pools, diff)
		}
	}
}

// BenchmarkOverlaps has 100 pools of 256 entries each, one address apart, and another that overlaps them all.
func BenchmarkOverlaps(b *testing.B) {
	var pools []lb.Pool
	for i := range 100 {
		p := lb.Pool{Name: fmt.Sprint("p", i)}
		for j := range 256 {
			p.Ranges = append(p.Ranges, lb.Range{From: addr(fmt.Sprintf("10.%d.%d.0", j, i)), To: addr(fmt.Sprintf("10.%d.%d.254", j, i))})
		}
		pools = append(pools, p)
	}
	pools = append(pools, lb.Pool{Name: "all", Ranges: []lb.Range{{From: addr("10.0.0.0"), To: addr("10.255.255.255")}}})
	for b.Loop() {
		if n := len(Overlaps(pools)); n != 101 {
			b.Fatalf("%d pools overlap", n)
		}
	}
}
