package ipam

import (
	"math/bits"
	"slices"
)

// set is a set of numbers from 0 to last that finds the lowest number it does not contain. It is a tree of 64-way nodes,
// ten levels at most, so that every operation costs the same however full it is; wholly contained subtrees take no memory.
type set struct {
	last  uint64 // less than 1<<60
	depth uint   // levels below the root
	root  node
}

// node covers 64 children of 64^level numbers each.
type node struct {
	full uint64  // bit i: everything below child i is in the set
	has  uint64  // bit i: child i is partly in the set and stored in kids
	kids []*node // in the order of the bits of has
}

const everything = ^uint64(0)

func newSet(last uint64) set {
	return set{last: last, depth: uint(max(bits.Len64(last)-1, 0) / 6)}
}

func (s *set) add(n uint64)    { s.root.add(n, s.depth) }
func (s *set) remove(n uint64) { s.root.remove(n, s.depth) }

// lowest returns the lowest number that is not in the set, false if there is none.
func (s *set) lowest() (uint64, bool) {
	var n uint64
	at := &s.root
	for level := s.depth; ; level-- {
		i := uint(bits.TrailingZeros64(^at.full))
		if i == 64 {
			return 0, false // only ever at the root: a full child is a bit in its parent
		}
		n |= uint64(i) << (6 * level)
		kid := at.kid(i)
		if kid == nil {
			return n, n <= s.last
		}
		at = kid
	}
}

func (n *node) add(number uint64, level uint) {
	i := uint(number >> (6 * level) & 63)
	if n.full>>i&1 == 1 {
		return
	}
	if level > 0 {
		kid := n.kid(i)
		if kid == nil {
			kid = &node{}
			n.insert(i, kid)
		}
		kid.add(number, level-1)
		if kid.full != everything {
			return
		}
		n.drop(i)
	}
	n.full |= 1 << i
}

func (n *node) remove(number uint64, level uint) {
	i := uint(number >> (6 * level) & 63)
	full := n.full>>i&1 == 1
	n.full &^= 1 << i
	if level == 0 {
		return
	}
	kid := n.kid(i)
	if full {
		kid = &node{full: everything}
		n.insert(i, kid)
	}
	if kid == nil {
		return
	}
	kid.remove(number, level-1)
	if kid.full == 0 && kid.has == 0 {
		n.drop(i)
	}
}

func (n *node) index(i uint) int { return bits.OnesCount64(n.has & (1<<i - 1)) }

func (n *node) kid(i uint) *node {
	if n.has>>i&1 == 0 {
		return nil
	}
	return n.kids[n.index(i)]
}

func (n *node) insert(i uint, kid *node) {
	n.kids = slices.Insert(n.kids, n.index(i), kid)
	n.has |= 1 << i
}

func (n *node) drop(i uint) {
	n.kids = slices.Delete(n.kids, n.index(i), n.index(i)+1)
	n.has &^= 1 << i
}
