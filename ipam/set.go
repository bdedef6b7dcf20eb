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
	spare []*node // dropped not long ago; at most maxSpare, to be used again
}

// maxSpare is the longest path of a tree: what giving out and taking back one address drops and needs again.
const maxSpare = 10

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

func (s *set) add(n uint64)    { s.addBelow(&s.root, n, s.depth) }
func (s *set) remove(n uint64) { s.removeBelow(&s.root, n, s.depth) }

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

func (s *set) addBelow(n *node, number uint64, level uint) {
	i := uint(number >> (6 * level) & 63)
	if n.full>>i&1 == 1 {
		return
	}
	if level > 0 {
		kid := n.kid(i)
		if kid == nil {
			kid = s.insert(n, i, 0)
		}
		s.addBelow(kid, number, level-1)
		if kid.full != everything {
			return
		}
		s.drop(n, i)
	}
	n.full |= 1 << i
}

func (s *set) removeBelow(n *node, number uint64, level uint) {
	i := uint(number >> (6 * level) & 63)
	full := n.full>>i&1 == 1
	n.full &^= 1 << i
	if level == 0 {
		return
	}
	kid := n.kid(i)
	if full {
		kid = s.insert(n, i, everything)
	}
	if kid == nil {
		return
	}
	s.removeBelow(kid, number, level-1)
	if kid.full == 0 && kid.has == 0 {
		s.drop(n, i)
	}
}

// insert gives n a child i with the given bits, and returns it.
func (s *set) insert(n *node, i uint, full uint64) *node {
	var kid *node
	if last := len(s.spare) - 1; last >= 0 {
		kid, s.spare = s.spare[last], s.spare[:last]
	} else {
		kid = &node{}
	}
	kid.full = full
	n.kids = slices.Insert(n.kids, n.index(i), kid)
	n.has |= 1 << i
	return kid
}

// drop takes child i, which has no children of its own, from n.
func (s *set) drop(n *node, i uint) {
	at := n.index(i)
	if len(s.spare) < maxSpare {
		s.spare = append(s.spare, n.kids[at])
	}
	n.kids = slices.Delete(n.kids, at, at+1)
	n.has &^= 1 << i
}

func (n *node) index(i uint) int { return bits.OnesCount64(n.has & (1<<i - 1)) }

func (n *node) kid(i uint) *node {
	if n.has>>i&1 == 0 {
		return nil
	}
	return n.kids[n.index(i)]
}
