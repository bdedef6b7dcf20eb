package election

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead-lb/fairlead/lb"
)

func candidates(names ...lb.NodeName) []Candidate {
	out := make([]Candidate, 0, len(names))
	for _, n := range names {
		out = append(out, Candidate{Node: n})
	}
	return out
}

func nodes(n int) []lb.NodeName {
	out := make([]lb.NodeName, 0, n)
	for i := range n {
		out = append(out, lb.NodeName(fmt.Sprintf("node-%d", i+1)))
	}
	return out
}

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

func TestOwner(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.200")
	abc := candidates("a", "b", "c")
	first, second := Rank(vip, abc)[0], Rank(vip, abc)[1]
	tests := []struct {
		name   string
		c      []Candidate
		claims Claims
		want   lb.NodeName
		ok     bool
	}{
		{name: "nobody"},
		{name: "only one", c: candidates("a"), want: "a", ok: true},
		{name: "no claims: the best ranked", c: abc, want: first, ok: true},
		{name: "a score beats the hash", c: []Candidate{{Node: first}, {Node: second, Score: 10}}, want: second, ok: true},
		{name: "a claim beats the hash", c: abc, claims: Claims{second: 1}, want: second, ok: true},
		{name: "a claim beats the score", c: []Candidate{{Node: "a"}, {Node: "b", Score: 100}}, claims: Claims{"a": 1}, want: "a", ok: true},
		{name: "of two claims the higher epoch", c: abc, claims: Claims{first: 3, second: 4}, want: second, ok: true},
		{name: "of equal epochs the better ranked", c: abc, claims: Claims{first: 4, second: 4}, want: first, ok: true},
		{name: "the claim of a node that is no candidate counts for nothing", c: candidates("a"), claims: Claims{"gone": 9}, want: "a", ok: true},
		{name: "epoch 0 is no claim", c: abc, claims: Claims{second: 0}, want: first, ok: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := Owner(vip, tt.c, tt.claims)
			if got != tt.want || ok != tt.ok {
				t.Errorf("Owner = %q, %t; want %q, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestSameFactsInAnyOrderNameTheSameOwner(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 500 {
		all := candidates(nodes(1 + r.IntN(8))...)
		claims := Claims{}
		for j := range all {
			all[j].Score = 10 * r.IntN(2)
			if r.IntN(4) == 0 {
				claims[all[j].Node] = uint64(r.IntN(3))
			}
		}
		want, _ := Owner(address(i), all, claims)
		shuffled := slices.Clone(all)
		r.Shuffle(len(shuffled), func(a, b int) { shuffled[a], shuffled[b] = shuffled[b], shuffled[a] })
		if got, _ := Owner(address(i), shuffled, claims); got != want {
			t.Fatalf("seed %d: %v and %v name %s and %s", seed, all, shuffled, want, got)
		}
	}
}

func TestDepartureMovesOnlyTheAddressesOfTheDeparted(t *testing.T) {
	all := nodes(7)
	for _, gone := range all {
		rest := slices.DeleteFunc(slices.Clone(all), func(n lb.NodeName) bool { return n == gone })
		for i := range 1000 {
			before, _ := Owner(address(i), candidates(all...), nil)
			after, _ := Owner(address(i), candidates(rest...), nil)
			if before != gone && before != after {
				t.Fatalf("%s left and %s moved from %s to %s", gone, address(i), before, after)
			}
		}
	}
}

func TestAddressesSpreadOverTheNodes(t *testing.T) {
	for _, n := range []int{2, 3, 5, 10} {
		const addresses = 5000
		owned := map[lb.NodeName]int{}
		for i := range addresses {
			owner, _ := Owner(address(i), candidates(nodes(n)...), nil)
			owned[owner]++
		}
		mean := float64(addresses) / float64(n)
		for _, node := range nodes(n) {
			if got := float64(owned[node]); got < 0.85*mean || got > 1.15*mean {
				t.Errorf("%d nodes: %s owns %.0f addresses, the mean is %.0f", n, node, got, mean)
			}
		}
	}
}

// TestWeightNeverChanges pins the hash: two versions of the speaker in one cluster must agree on the owner.
func TestWeightNeverChanges(t *testing.T) {
	got := fmt.Sprint(Rank(netip.MustParseAddr("192.0.2.200"), candidates(nodes(5)...)), Rank(netip.MustParseAddr("2001:db8::c8"), candidates(nodes(5)...)))
	const want = "[node-2 node-1 node-4 node-5 node-3] [node-5 node-4 node-1 node-3 node-2]"
	if got != want {
		t.Errorf("ranking changed:\n got %s\nwant %s", got, want)
	}
}
