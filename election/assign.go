package election

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// Candidate is a node that could announce an address.
type Candidate struct {
	Node  lb.NodeName
	Score int // sum of the weights of the preferences that the node matches; higher is better
}

// Claim says that a node announces the address of a [Seat] at the moment.
type Claim struct {
	Node  lb.NodeName
	Epoch uint64      // when it took the address over; 0 = no claim
	To    lb.NodeName // whom it hands the address over to; "" = nobody
}

// Seat is an address that needs an owner. Seats may share the memory of their candidates, which makes [Assign] faster.
type Seat struct {
	VIP        netip.Addr
	Candidates []Candidate
	Claims     []Claim

	// Failback is how long a better candidate must have been steady before the owner hands over; nil = never.
	Failback *time.Duration
}

// Assignment says who owns what.
type Assignment struct {
	Owners []lb.NodeName // for each seat, in the order of the seats; "" if there is no candidate

	seats  []Seat
	fields []*field              // for each seat
	nodes  map[lb.NodeName]*node // all candidates
}

// node is what Assign counts of a candidate. Only seats count in which no other candidate has a higher score.
type node struct {
	name  lb.NodeName
	share uint64 // its fair share of the seats, in units of 1/scale
	load  int    // seats that it owns
}

// field is a list of candidates as Assign looks at it.
type field struct {
	best  []*node // those with the highest score, sorted by name
	seats uint64  // how many have this field
}

const scale = 1 << 32

// limit is the number of seats above which a node gets no more: 1.25 x its fair share, rounded up.
func (n *node) limit() int { return int((n.share*5 + 4*scale - 1) / (4 * scale)) }

// fair is the node's fair share, rounded up.
func (n *node) fair() int { return int((n.share + scale - 1) / scale) }

// Assign names an owner for each seat. A candidate with a claim keeps the address, whatever scores and loads say; of several
// the one with the higher epoch, because it took over with knowledge of the other, and between equal epochs the one with the
// higher score, then rendezvous weight. One that hands the address over to another candidate has given it away already.
//
// The seats without a claim are given in the order of their addresses to the candidate with the highest weight among those
// with the highest score that own less than 1.25 x their fair share; if none of them does, to the one with the highest weight.
// The fair share of a node is the sum of 1/n over the seats in which it is one of n best candidates.
//
// The result depends on the facts alone, not on their order. It also stays the same when some of the owners that it names have
// claimed their seats already and others have not, so that speakers need not wait for each other; only where a seat finds all
// its candidates at their limits, which takes seats with different candidates, it may change with that. A node that leaves
// moves only the seats that it owned, if all seats were claimed. Cost: O(candidates) per seat without a claim, else less.
func Assign(seats []Seat) *Assignment {
	a := &Assignment{Owners: make([]lb.NodeName, len(seats)), seats: seats, fields: make([]*field, len(seats)), nodes: map[lb.NodeName]*node{}}
	a.open()
	var free []int
	for i, seat := range seats {
		if owner := seat.claimed(a.fields[i]); owner != "" {
			a.give(i, owner)
		} else if len(seat.Candidates) > 0 {
			free = append(free, i)
		}
	}
	slices.SortFunc(free, func(i, j int) int { return seats[i].VIP.Compare(seats[j].VIP) })
	for _, i := range free {
		best := a.fields[i].best
		any, roomy := choose(seats[i].VIP, best, func(n *node) bool { return n.load < n.limit() })
		if roomy != nil {
			any = roomy
		}
		a.give(i, any.name)
	}
	return a
}

// open prepares the fields and counts the fair shares. Seats that share their candidates share a field.
func (a *Assignment) open() {
	type key struct {
		first *Candidate
		n     int
	}
	known := map[key]*field{}
	for i, seat := range a.seats {
		if len(seat.Candidates) == 0 {
			continue
		}
		k := key{&seat.Candidates[0], len(seat.Candidates)}
		f := known[k]
		if f == nil {
			f = a.newField(seat.Candidates)
			known[k] = f
		}
		a.fields[i] = f
		f.seats++
	}
	for _, f := range known {
		for _, n := range f.best {
			n.share += f.seats * scale / uint64(len(f.best))
		}
	}
}

func (a *Assignment) newField(candidates []Candidate) *field {
	f := &field{}
	highest := slices.MaxFunc(candidates, func(x, y Candidate) int { return cmp.Compare(x.Score, y.Score) }).Score
	for _, c := range candidates {
		n := a.nodes[c.Node]
		if n == nil {
			n = &node{name: c.Node}
			a.nodes[c.Node] = n
		}
		if c.Score == highest {
			f.best = append(f.best, n)
		}
	}
	slices.SortFunc(f.best, func(x, y *node) int { return cmp.Compare(x.name, y.name) })
	return f
}

// claimed names the owner by claim; "" if no candidate has one.
func (s Seat) claimed(f *field) lb.NodeName {
	var winner Claim
	var score int
	for _, c := range s.Claims {
		i := slices.IndexFunc(s.Candidates, func(o Candidate) bool { return o.Node == c.Node })
		if i < 0 || c.Epoch == 0 {
			continue
		}
		order := cmp.Compare(c.Epoch, winner.Epoch)
		if order == 0 {
			order = cmp.Or(cmp.Compare(s.Candidates[i].Score, score), cmp.Compare(weight(s.VIP, c.Node), weight(s.VIP, winner.Node)), cmp.Compare(winner.Node, c.Node))
		}
		if order > 0 {
			winner, score = c, s.Candidates[i].Score
		}
	}
	if winner.To != "" && slices.ContainsFunc(s.Candidates, func(c Candidate) bool { return c.Node == winner.To }) {
		return winner.To
	}
	return winner.Node
}

func (a *Assignment) give(i int, owner lb.NodeName) {
	a.Owners[i] = owner
	if n := a.nodes[owner]; a.fields[i].has(n) {
		n.load++
	}
}

// has reports whether n is one of the best.
func (f *field) has(n *node) bool {
	_, ok := slices.BinarySearchFunc(f.best, n.name, func(x *node, name lb.NodeName) int { return cmp.Compare(x.name, name) })
	return ok
}

// choose returns the node with the highest weight for vip, and that among those that are fit, nil if none is. The nodes are
// sorted by name, which settles a tie.
func choose(vip netip.Addr, nodes []*node, fit func(*node) bool) (best, bestFit *node) {
	var top, topFit uint64
	begun := begin(vip)
	for _, n := range nodes {
		w := finish(begun, n.name)
		if best == nil || w > top {
			best, top = n, w
		}
		if (bestFit == nil || w > topFit) && fit(n) {
			bestFit, topFit = n, w
		}
	}
	return best, bestFit
}

// Handovers says for each seat that self owns by its claim which better candidate it should hand the address over to, "" if it
// should keep it. Better is a candidate with a higher score, or, while self owns more than 1.25 x its fair share of seats, one
// with the same, highest, score that owns less than its fair share: the gap between the two keeps addresses from moving to and
// fro. It must have been steady for as long as the seat's Failback says, and what self has given away already counts as given.
func (a *Assignment) Handovers(self lb.NodeName, steady map[lb.NodeName]time.Duration) []lb.NodeName {
	out := make([]lb.NodeName, len(a.seats))
	me := a.nodes[self]
	for i, seat := range a.seats {
		if a.Owners[i] != self || seat.Failback == nil || !slices.ContainsFunc(seat.Claims, func(c Claim) bool { return c.Node == self }) {
			continue
		}
		f := a.fields[i]
		ripe := func(n *node) bool { return n != me && steady[n.name] >= *seat.Failback }
		var to *node
		if !f.has(me) {
			_, to = choose(seat.VIP, f.best, func(n *node) bool { return ripe(n) && n.load < n.limit() })
			if to == nil {
				_, to = choose(seat.VIP, f.best, ripe)
			}
		} else if me.load > me.limit() {
			_, to = choose(seat.VIP, f.best, func(n *node) bool { return ripe(n) && n.load < n.fair() })
			if to != nil {
				me.load--
			}
		}
		if to != nil {
			to.load++
			out[i] = to.name
		}
	}
	return out
}
