package election

import (
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// How many nodes listen to each node's heartbeats, and how many of them must miss it.
const (
	fullMesh = 4 // speakers up to which every node watches every other
	watchers = 3 // peers that watch a node above that
	quorum   = 2 // one starved watcher alone cannot take a node's addresses away
)

// Watchers returns the nodes out of all that watch node, sorted: all others up to 4, above that 3 chosen by rendezvous hash, so
// that a node that comes or goes changes few of the choices. Every speaker must compute the same ones.
func Watchers(node lb.NodeName, all []lb.NodeName) []lb.NodeName {
	peers := slices.DeleteFunc(sorted(all), func(n lb.NodeName) bool { return n == node })
	if len(peers) < fullMesh {
		return peers
	}
	type ranked struct {
		node   lb.NodeName
		weight uint64
	}
	var best [watchers]ranked // best first; an empty name is a free place
	for _, peer := range peers {
		one := ranked{peer, pairWeight(node, peer)}
		for i, o := range best {
			if o.node == "" || one.weight > o.weight || one.weight == o.weight && one.node < o.node {
				copy(best[i+1:], best[i:])
				best[i] = one
				break
			}
		}
	}
	out := make([]lb.NodeName, 0, watchers)
	for _, one := range best {
		out = append(out, one.node)
	}
	slices.Sort(out)
	return out
}

// Sessions returns the nodes with which self exchanges heartbeats, sorted: those that watch it and those that it watches. It is
// symmetric: if a is in the sessions of b, then b is in those of a.
func Sessions(self lb.NodeName, all []lb.NodeName) []lb.NodeName {
	out := Watchers(self, all)
	for _, node := range all {
		if node != self && slices.Contains(Watchers(node, all), self) {
			out = append(out, node)
		}
	}
	return sorted(out)
}

// Down returns the nodes that count as dead in the eyes of self because enough of the nodes that have a session with them no
// longer hear them: two, or all that are left. Not left are those that are no members any more, that are about to leave, or that
// somebody accuses too.
// The word of a member that self itself no longer hears, or that is down by the word of others, counts for nothing: it is old.
//
// So both of two nodes that die at once are found by a single survivor, and after a partition each half calls the other one
// down; both serve then, and the epochs of their claims settle it when they meet again. Self is never in the result: a node
// that the others take for dead learns that by their claims. A node without a session to a living member is left to gossip.
func Down(members []lb.Member, self lb.NodeName) map[lb.NodeName]bool {
	deaf := map[lb.NodeName]bool{} // whose word does not count
	accused := false
	for _, m := range members {
		accused = accused || len(m.Suspects) > 0
		if m.Node == self {
			for _, n := range m.Suspects {
				deaf[n] = true
			}
		}
	}
	if !accused {
		return nil
	}
	first := judge(members, self, deaf)
	for n := range first {
		deaf[n] = true
	}
	return judge(members, self, deaf)
}

// judge applies the rule of [Down] once, without the word of those in deaf.
func judge(members []lb.Member, self lb.NodeName, deaf map[lb.NodeName]bool) map[lb.NodeName]bool {
	votes := map[lb.NodeName][]lb.NodeName{} // by accused
	var all, left []lb.NodeName              // left: nobody speaks against them, below
	leaving := map[lb.NodeName]bool{}
	for _, m := range members {
		all = append(all, m.Node)
		leaving[m.Node] = m.Draining // it may have said goodbye to its peers already, and no longer listen
		for _, n := range m.Suspects {
			if n != m.Node && !deaf[m.Node] {
				votes[n] = append(votes[n], m.Node)
			}
		}
	}
	for _, n := range all {
		if n == self || !deaf[n] && !leaving[n] && len(votes[n]) == 0 {
			left = append(left, n)
		}
	}
	for n := range votes {
		all = append(all, n) // also one that gossip has lost already
	}
	all = sorted(all)
	down := map[lb.NodeName]bool{}
	for n, voters := range votes {
		if n == self {
			continue
		}
		could := len(voters)
		if could < quorum {
			for _, w := range Sessions(n, all) {
				if slices.Contains(left, w) && !slices.Contains(voters, w) {
					could++
				}
			}
		}
		if len(voters) >= min(quorum, could) {
			down[n] = true
		}
	}
	return down
}

func sorted(nodes []lb.NodeName) []lb.NodeName {
	out := slices.Clone(nodes)
	slices.Sort(out)
	return slices.Compact(out)
}
