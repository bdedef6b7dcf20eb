package election

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// seats returns n seats without claims for which all stand.
func seats(n int, all []Candidate) []Seat {
	out := make([]Seat, 0, n)
	for i := range n {
		out = append(out, Seat{VIP: address(i), Candidates: all})
	}
	return out
}

// claim has each owner claim its seats.
func claim(seats []Seat, owners []lb.NodeName) []Seat {
	out := slices.Clone(seats)
	for i, owner := range owners {
		out[i].Claims = []Claim{{Node: owner, Epoch: 1}}
	}
	return out
}

func count(owners []lb.NodeName) map[lb.NodeName]int {
	out := map[lb.NodeName]int{}
	for _, o := range owners {
		out[o]++
	}
	return out
}

// rank returns the candidates for vip, the best first: each time the owner is taken away.
func rank(vip netip.Addr, c []Candidate) []lb.NodeName {
	var out []lb.NodeName
	for c = slices.Clone(c); len(c) > 0; {
		owner := Assign([]Seat{{VIP: vip, Candidates: c}}).Owners[0]
		out = append(out, owner)
		c = slices.DeleteFunc(c, func(o Candidate) bool { return o.Node == owner })
	}
	return out
}

func TestAssignOne(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.200")
	abc := candidates("a", "b", "c")
	ranked := rank(vip, abc)
	first, second, third := ranked[0], ranked[1], ranked[2]
	tests := []struct {
		name   string
		c      []Candidate
		claims []Claim
		want   lb.NodeName
	}{
		{name: "nobody"},
		{name: "only one", c: candidates("a"), want: "a"},
		{name: "no claims: the best ranked", c: abc, want: first},
		{name: "a score beats the hash", c: []Candidate{{Node: first}, {Node: second, Score: 10}}, want: second},
		{name: "a claim beats the hash", c: abc, claims: []Claim{{Node: second, Epoch: 1}}, want: second},
		{name: "a claim beats the score", c: []Candidate{{Node: "a"}, {Node: "b", Score: 100}}, claims: []Claim{{Node: "a", Epoch: 1}}, want: "a"},
		{name: "of two claims the higher epoch", c: abc, claims: []Claim{{Node: first, Epoch: 3}, {Node: second, Epoch: 4}}, want: second},
		{name: "of equal epochs the better ranked", c: abc, claims: []Claim{{Node: second, Epoch: 4}, {Node: first, Epoch: 4}}, want: first},
		{name: "of equal epochs the higher score", c: []Candidate{{Node: first}, {Node: second, Score: 1}}, claims: []Claim{{Node: first, Epoch: 4}, {Node: second, Epoch: 4}}, want: second},
		{name: "the claim of a node that is no candidate counts for nothing", c: candidates("a"), claims: []Claim{{Node: "gone", Epoch: 9}}, want: "a"},
		{name: "epoch 0 is no claim", c: abc, claims: []Claim{{Node: second}}, want: first},
		{name: "handed over", c: abc, claims: []Claim{{Node: first, Epoch: 2, To: third}}, want: third},
		{name: "handed over and taken", c: abc, claims: []Claim{{Node: first, Epoch: 2, To: third}, {Node: third, Epoch: 3}}, want: third},
		{name: "handed over to one that died", c: candidates(first, second), claims: []Claim{{Node: first, Epoch: 2, To: third}}, want: first},
		{name: "handed over in an epoch that is past", c: abc, claims: []Claim{{Node: first, Epoch: 2, To: third}, {Node: second, Epoch: 5}}, want: second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Assign([]Seat{{VIP: vip, Candidates: tt.c, Claims: tt.claims}}).Owners[0]; got != tt.want {
				t.Errorf("owner %q, want %q", got, tt.want)
			}
		})
	}
}

// randomSeats makes seats with scores and claims; if they are mixed, their candidates differ.
func randomSeats(r *rand.Rand, mixed bool) []Seat {
	shared := candidates(nodes(1 + r.IntN(8))...)
	for i := range shared {
		shared[i].Score = 10 * r.IntN(2)
	}
	var out []Seat
	for i := range r.IntN(60) {
		seat := Seat{VIP: address(i), Candidates: shared}
		if mixed && r.IntN(3) == 0 {
			seat.Candidates = nil
			for _, c := range shared {
				if r.IntN(3) > 0 {
					seat.Candidates = append(seat.Candidates, Candidate{c.Node, 10 * r.IntN(2)})
				}
			}
		}
		for _, c := range seat.Candidates {
			if r.IntN(6) == 0 {
				seat.Claims = append(seat.Claims, Claim{Node: c.Node, Epoch: uint64(r.IntN(3))})
			}
		}
		out = append(out, seat)
	}
	return out
}

func TestSameFactsInAnyOrderNameTheSameOwners(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		all := randomSeats(r, true)
		want := map[netip.Addr]lb.NodeName{}
		for i, owner := range Assign(all).Owners {
			want[all[i].VIP] = owner
		}
		r.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
		for i := range all {
			c := slices.Clone(all[i].Candidates)
			r.Shuffle(len(c), func(a, b int) { c[a], c[b] = c[b], c[a] })
			all[i].Candidates = c
			slices.Reverse(all[i].Claims)
		}
		for i, owner := range Assign(all).Owners {
			if owner != want[all[i].VIP] {
				t.Fatalf("seed %d: in another order %s goes to %s instead of %s", seed, all[i].VIP, owner, want[all[i].VIP])
			}
		}
	}
}

// TestSomeMayActBeforeOthers has a random part of the owners claim what they were given: the rest stays as it was.
func TestSomeMayActBeforeOthers(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		all := randomSeats(r, false)
		want := Assign(all).Owners
		for i := range all {
			if want[i] != "" && r.IntN(2) == 0 {
				all[i].Claims = []Claim{{Node: want[i], Epoch: 7}}
			}
		}
		if d := cmp.Diff(want, Assign(all).Owners); d != "" {
			t.Fatalf("seed %d (-at once +after some have acted):\n%s", seed, d)
		}
	}
}

func TestDepartureMovesOnlyTheAddressesOfTheDeparted(t *testing.T) {
	all := nodes(7)
	before := Assign(seats(1000, candidates(all...))).Owners
	for _, gone := range all {
		rest := slices.DeleteFunc(slices.Clone(all), func(n lb.NodeName) bool { return n == gone })
		after := Assign(claim(seats(1000, candidates(rest...)), before)).Owners
		for i := range before {
			if before[i] != gone && before[i] != after[i] || after[i] == gone {
				t.Fatalf("%s left and %s moved from %s to %s", gone, address(i), before[i], after[i])
			}
		}
		for node, load := range count(after) {
			if load > 1000*5/4/6+1 {
				t.Errorf("%s left and %s owns %d of 1000", gone, node, load)
			}
		}
	}
}

func TestNobodyOwnsMoreThanItsShareAndAQuarter(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 10, 100} {
		for _, addresses := range []int{1, 2, 3, 7, 30, 1000, 5000} {
			owners := count(Assign(seats(addresses, candidates(nodes(n)...))).Owners)
			limit := (5*addresses + 4*n - 1) / (4 * n)
			for node, load := range owners {
				if load > limit {
					t.Errorf("%d addresses on %d nodes: %s owns %d, the limit is %d", addresses, n, node, load, limit)
				}
			}
		}
	}
}

func TestLoadIsBoundedAmongThePreferred(t *testing.T) {
	all := candidates(nodes(10)...)
	all[3].Score, all[7].Score = 50, 50
	got := count(Assign(seats(100, all)).Owners)
	if got["node-4"]+got["node-8"] != 100 || max(got["node-4"], got["node-8"]) > 63 {
		t.Errorf("%v, want all on node-4 and node-8, at most 63 on each", got)
	}
}

// TestWeightNeverChanges pins the hash: two versions of the speaker in one cluster must agree on the owner.
func TestWeightNeverChanges(t *testing.T) {
	all := candidates(nodes(5)...)
	got := fmt.Sprint(rank(netip.MustParseAddr("192.0.2.200"), all), rank(netip.MustParseAddr("2001:db8::c8"), all), Watchers("node-1", nodes(9)))
	const want = "[node-2 node-1 node-4 node-5 node-3] [node-5 node-4 node-1 node-3 node-2] [node-4 node-5 node-9]"
	if got != want {
		t.Errorf("ranking changed:\n got %s\nwant %s", got, want)
	}
}

func TestHandovers(t *testing.T) {
	half := 30 * time.Second
	steady := map[lb.NodeName]time.Duration{"a": time.Hour, "b": half, "c": time.Second}
	prefer := func(node lb.NodeName) []Candidate {
		out := candidates("a", "b", "c")
		for i := range out {
			if out[i].Node == node {
				out[i].Score = 10
			}
		}
		return out
	}
	owned := func(n int, all []Candidate, failback *time.Duration) []Seat {
		out := seats(n, all)
		for i := range out {
			out[i].Failback, out[i].Claims = failback, []Claim{{Node: "a", Epoch: 1}}
		}
		return out
	}
	two := candidates("a", "b")
	tests := []struct {
		name  string
		seats []Seat
		want  map[lb.NodeName]int // how many seats go to whom
	}{
		{name: "never", seats: owned(4, prefer("b"), nil)},
		{name: "a higher score, long enough", seats: owned(4, prefer("b"), &half), want: map[lb.NodeName]int{"b": 4}},
		{name: "a higher score, not long enough", seats: owned(4, prefer("c"), &half)},
		{name: "its own score is the highest", seats: owned(4, prefer("a"), &half)},
		{name: "above the limit: down to it", seats: owned(8, two, &half), want: map[lb.NodeName]int{"b": 3}},
		{name: "above the limit, but never", seats: owned(8, two, nil)},
		{name: "above the limit, but the other one is new", seats: owned(8, candidates("a", "c"), &half)},
		{name: "at the limit", seats: claim(owned(8, two, &half), []lb.NodeName{"a", "a", "a", "a", "a", "b", "b", "b"})},
		{name: "what was given away counts", seats: func() []Seat {
			s := owned(8, two, &half)
			for i := range 3 {
				s[i].Claims[0].To = "b"
			}
			return s
		}()},
		{name: "not by one that has no claim", seats: func() []Seat {
			s := owned(1, prefer("b"), &half)
			s[0].Candidates, s[0].Claims = candidates("a"), nil
			return s
		}()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := count(Assign(tt.seats).Handovers("a", steady))
			delete(got, "")
			if !maps.Equal(got, tt.want) {
				t.Errorf("handed over %v, want %v", got, tt.want)
			}
		})
	}
}

func BenchmarkAssign(b *testing.B) {
	for _, size := range []struct{ addresses, nodes int }{{5000, 100}, {10000, 10}} {
		free := seats(size.addresses, candidates(nodes(size.nodes)...))
		held := claim(free, Assign(free).Owners)
		name := fmt.Sprintf("%d addresses, %d nodes", size.addresses, size.nodes)
		b.Run(name+", at first", func(b *testing.B) {
			for b.Loop() {
				Assign(free)
			}
		})
		b.Run(name+", nothing new", func(b *testing.B) {
			for b.Loop() {
				Assign(held)
			}
		})
	}
}
