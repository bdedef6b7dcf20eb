package election

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestWatchers(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 10, 100} {
		all := nodes(n)
		watched := map[lb.NodeName]int{}
		for _, node := range all {
			got := Watchers(node, all)
			want := min(n-1, 3)
			if len(got) != want || slices.Contains(got, node) || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != want {
				t.Errorf("%d nodes: watchers of %s are %v, want %d others", n, node, got, want)
			}
			for _, w := range got {
				watched[w]++
			}
			reversed := slices.Clone(all)
			slices.Reverse(reversed)
			if !slices.Equal(got, Watchers(node, reversed)) {
				t.Errorf("%d nodes: the order of the nodes changes the watchers of %s", n, node)
			}
		}
		for node, count := range watched {
			if count > 12 {
				t.Errorf("%d nodes: %s watches %d others", n, node, count)
			}
		}
	}
}

func TestADepartureChangesFewWatchers(t *testing.T) {
	all := nodes(50)
	gone, rest := all[17], slices.Delete(slices.Clone(all), 17, 18)
	for _, node := range rest {
		before, after := Watchers(node, all), Watchers(node, rest)
		stayed := slices.DeleteFunc(slices.Clone(before), func(n lb.NodeName) bool { return n == gone })
		for _, n := range stayed {
			if !slices.Contains(after, n) {
				t.Errorf("%s left, and %s lost its watcher %s: %v, %v", gone, node, n, before, after)
			}
		}
	}
}

func TestSessionsAreSymmetric(t *testing.T) {
	for _, n := range []int{2, 4, 5, 20} {
		all := nodes(n)
		for _, a := range all {
			for _, b := range Sessions(a, all) {
				if a == b || !slices.Contains(Sessions(b, all), a) {
					t.Errorf("%d nodes: %s has a session with %s, but not the other way", n, a, b)
				}
			}
		}
	}
}

// suspecting parses "a:b,c b!: c:a": members and whom they suspect; one with "!" is draining.
func suspecting(s string) []lb.Member {
	var out []lb.Member
	for _, word := range strings.Fields(s) {
		node, suspects, _ := strings.Cut(word, ":")
		node, draining := strings.CutSuffix(node, "!")
		m := lb.Member{Node: lb.NodeName(node), Draining: draining}
		for _, n := range strings.FieldsFunc(suspects, func(r rune) bool { return r == ',' }) {
			m.Suspects = append(m.Suspects, lb.NodeName(n))
		}
		out = append(out, m)
	}
	return out
}

func TestDown(t *testing.T) {
	tests := []struct {
		name, members string
		self          lb.NodeName
		want          []lb.NodeName
	}{
		{name: "nobody suspected", members: "a: b: c:", self: "a"},
		{name: "two nodes: one watcher is all there is", members: "a:b b:", self: "a", want: []lb.NodeName{"b"}},
		{name: "two nodes: the accused does not fence itself", members: "a:b b:", self: "b"},
		{name: "three nodes: one of two watchers is not enough", members: "a:c b: c:", self: "a"},
		{name: "three nodes: nor for the other watcher", members: "a:c b: c:", self: "b"},
		{name: "three nodes: both watchers", members: "a:c b:c c:", self: "b", want: []lb.NodeName{"c"}},
		{name: "three nodes: two die at once, a single survivor", members: "a:b,c b: c:", self: "a", want: []lb.NodeName{"b", "c"}},
		{name: "three nodes: a node that hears nobody is no reason for the others", members: "a: b: c:a,b", self: "a"},
		{name: "three nodes: a broken link between two of them", members: "a:c b: c:a", self: "b"},
		{name: "three nodes: the same, seen from one end", members: "a:c b: c:a", self: "a"},
		{name: "four nodes: two of three watchers", members: "a:d b:d c: d:", self: "c", want: []lb.NodeName{"d"}},
		{name: "four nodes: two die at once", members: "a:c,d b:c,d c: d:", self: "a", want: []lb.NodeName{"c", "d"}},
		{name: "four nodes: before the second survivor has spoken", members: "a:c,d b: c: d:", self: "a"},
		{name: "four nodes: a watcher dies together with its node, the other one has not spoken", members: "a:c,d b:d c: d:", self: "a", want: []lb.NodeName{"d"}},
		{name: "four nodes: a partition in halves, seen from one", members: "a:c,d b:c,d c: d:", self: "b", want: []lb.NodeName{"c", "d"}},
		{name: "four nodes: healed, but two have not noticed: two words against one", members: "a: b:c,d c:a,b d:a,b", self: "a", want: []lb.NodeName{"b"}},
		{name: "four nodes: healed, two against two cancel out", members: "a: b:c,d e:c,d c:b,e d:b,e", self: "a"},
		{name: "four nodes: who hears nobody is down, and its word is worth nothing", members: "a:b,c,d b:a c:a d:a", self: "b", want: []lb.NodeName{"a"}},
		{name: "four nodes: who hears nobody serves alone", members: "a:b,c,d b: c: d:", self: "a", want: []lb.NodeName{"b", "c", "d"}},
		{name: "the word of one that I no longer hear is old", members: "a:b b:c c: d:b,c", self: "a", want: []lb.NodeName{"b"}},
		{name: "four nodes: one that leaves is no witness any more", members: "a!: b: c:b,d d:", self: "c", want: []lb.NodeName{"b", "d"}},
		{name: "four nodes: but its word counts", members: "a!:d b: c:d d:", self: "b", want: []lb.NodeName{"d"}},
		{name: "still down after gossip has lost it", members: "a:c b:c", self: "a", want: []lb.NodeName{"c"}},
		{name: "a suspicion of oneself is nonsense", members: "a:a b:", self: "b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := slices.Sorted(maps.Keys(Down(suspecting(tt.members), tt.self)))
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("down (-want +got):\n%s", d)
			}
		})
	}
}

// TestDownFindsEveryCrowd lets every set of up to five of twelve nodes die at once, in each survivor's eyes, once the survivors
// that have sessions with the dead have spoken. Only nodes without any living partner may be missed, and nobody else is accused.
func TestDownFindsEveryCrowd(t *testing.T) {
	all := nodes(12)
	sessions := map[lb.NodeName][]lb.NodeName{}
	for _, n := range all {
		sessions[n] = Sessions(n, all)
	}
	for set := range 1 << len(all) {
		var dead []lb.NodeName
		for i, n := range all {
			if set>>i&1 == 1 {
				dead = append(dead, n)
			}
		}
		if len(dead) > 5 || len(dead) == 0 || set%7 != 0 { // a seventh of them: it is enough, and fast
			continue
		}
		var members []lb.Member
		var want []lb.NodeName
		for _, n := range all {
			m := lb.Member{Node: n}
			for _, o := range sessions[n] {
				if slices.Contains(dead, o) && !slices.Contains(dead, n) {
					m.Suspects = append(m.Suspects, o)
				}
			}
			slices.Sort(m.Suspects)
			members = append(members, m)
			if slices.Contains(dead, n) && slices.ContainsFunc(sessions[n], func(o lb.NodeName) bool { return !slices.Contains(dead, o) }) {
				want = append(want, n)
			}
		}
		slices.Sort(want)
		for _, self := range all {
			if slices.Contains(dead, self) {
				continue
			}
			if got := slices.Sorted(maps.Keys(Down(members, self))); !slices.Equal(got, want) {
				t.Fatalf("%v died, %s finds %v, want %v", dead, self, got, want)
			}
			break // what the first survivor sees, all see: they have the same facts
		}
	}
}

func BenchmarkDown(b *testing.B) {
	all := nodes(100)
	var members []lb.Member
	for _, n := range all {
		members = append(members, lb.Member{Node: n})
	}
	for _, n := range Watchers(all[0], all) {
		for i := range members {
			if members[i].Node == n {
				members[i].Suspects = all[:1]
			}
		}
	}
	for _, what := range []string{"suspected", "quiet"} {
		b.Run(fmt.Sprintf("100 nodes, %s", what), func(b *testing.B) {
			for b.Loop() {
				Down(members, all[50])
			}
		})
		for i := range members {
			members[i].Suspects = nil
		}
	}
}
