package election

import (
	"net/netip"

	"github.com/fairlead-lb/fairlead/lb"
)

// weight is the rendezvous weight of node for vip. Every speaker of a cluster must compute the same value: changing it moves
// addresses during a rolling upgrade.
func weight(vip netip.Addr, node lb.NodeName) uint64 { return finish(begin(vip), node) }

// begin is the part of [weight] that all nodes have in common.
func begin(vip netip.Addr) uint64 {
	h := uint64(offset)
	for _, b := range vip.As16() {
		h = (h ^ uint64(b)) * prime
	}
	return h
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
