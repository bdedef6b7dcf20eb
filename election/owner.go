package election

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// Candidate is a node that could announce an address.
type Candidate struct {
	Node  lb.NodeName
	Score int // sum of the weights of the preferences that the node matches; higher is better
}

// Claims says who announces one address at the moment, and in which epoch each of them took it over.
type Claims map[lb.NodeName]uint64

// Owner names the candidate that shall announce vip; false if there is no candidate. A candidate with a claim keeps the
// address, whatever the scores say; of several the one with the higher epoch, because it took over with knowledge of the
// other. Without a claim, or between equal epochs, the order of [Rank] decides. The order of c is of no importance.
func Owner(vip netip.Addr, c []Candidate, claims Claims) (lb.NodeName, bool) {
	ranked := Rank(vip, c)
	if len(ranked) == 0 {
		return "", false
	}
	owner, best := ranked[0], uint64(0)
	for _, node := range ranked {
		if epoch := claims[node]; epoch > best {
			owner, best = node, epoch
		}
	}
	return owner, true
}

// Rank returns the candidates for vip, best first: by score, then by rendezvous hash, then by name.
func Rank(vip netip.Addr, c []Candidate) []lb.NodeName {
	type ranked struct {
		Candidate
		weight uint64
	}
	all := make([]ranked, 0, len(c))
	for _, one := range c {
		all = append(all, ranked{one, weight(vip, one.Node)})
	}
	slices.SortFunc(all, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.weight, a.weight), strings.Compare(string(a.Node), string(b.Node)))
	})
	out := make([]lb.NodeName, 0, len(all))
	for _, one := range all {
		out = append(out, one.Node)
	}
	return out
}

// weight is the rendezvous weight of node for vip. Every speaker of a cluster must compute the same value: changing it moves
// addresses during a rolling upgrade.
func weight(vip netip.Addr, node lb.NodeName) uint64 {
	h := uint64(offset)
	for _, b := range vip.As16() {
		h = (h ^ uint64(b)) * prime
	}
	return finish(h, node)
}

// pairWeight is the rendezvous weight of peer as a watcher of node.
func pairWeight(node, peer lb.NodeName) uint64 {
	h := uint64(offset)
	for i := range len(node) {
		h = (h ^ uint64(node[i])) * prime
	}
	return finish(h*prime, peer) // as if a zero byte stood between the names
}

// FNV-1a's constants for 64 bits.
const offset, prime = 14695981039346656037, 1099511628211

// finish takes in the node's name and mixes the bits: FNV alone leaves names that differ in the last letter close together.
func finish(h uint64, node lb.NodeName) uint64 {
	for i := range len(node) {
		h = (h ^ uint64(node[i])) * prime
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd // MurmurHash3's fmix64
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
