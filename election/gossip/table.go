package gossip

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// table holds everything this member knows about the others. It is not safe for concurrent use and reads no clock.
type table struct {
	self    record
	alive   map[lb.NodeName]netip.AddrPort // per memberlist, without this node
	lost    map[lb.NodeName]lost           // members that went without goodbye
	records map[lb.NodeName]known          // of others, alive or not: a record may arrive before its node
	spoken  map[lb.NodeName]time.Time      // when another member last sent the record of a node, its own or one that it holds for living
	asked   time.Time                      // when the latest exchange began that this member asked for and that succeeded
}

// known is what this member knows of another one's record.
type known struct {
	record         // the youngest, whole
	whole   record // the youngest that has arrived whole: differences build on it
	pending record // a difference that arrived before its base; no stamp = none
	at      time.Time
}

type lost struct {
	addr netip.AddrPort
	at   time.Time
}

// forget is how long the record and address of a node that is not alive are kept.
const forget = 24 * time.Hour

func newTable(self lb.NodeName, incarnation uint64) *table {
	return &table{
		self:    record{Member: lb.Member{Node: self}, stamp: stamp{incarnation, 1}},
		alive:   map[lb.NodeName]netip.AddrPort{},
		lost:    map[lb.NodeName]lost{},
		records: map[lb.NodeName]known{},
		spoken:  map[lb.NodeName]time.Time{},
	}
}

// setSelf replaces what this member says and reports whether that is news.
func (t *table) setSelf(m lb.Member) bool {
	m.Node = t.self.Node
	if equal(m, t.self.Member) {
		return false
	}
	t.self.Member = m
	t.self.version++
	return true
}

// setKeys replaces what this member says about the keys that it holds and reports whether that is news.
func (t *table) setKeys(ids []uint32) bool {
	if slices.Equal(ids, t.self.keys) {
		return false
	}
	t.self.keys = ids
	t.self.version++
	return true
}

// keysHeld returns the keys that each of the others holds: those that live, and those that were lost and may come back with
// what they had. Who has not said anything is left out.
func (t *table) keysHeld(now time.Time) [][]uint32 {
	var out [][]uint32
	for node := range t.known(now) {
		if ids := t.records[node].keys; len(ids) > 0 {
			out = append(out, ids)
		}
	}
	return out
}

// sayGoodbye makes the record of this member its last one.
func (t *table) sayGoodbye() {
	t.self.goodbye = true
	t.self.version++
}

// merge takes in a record from another member and reports whether it is news. A record of this node that is younger than its
// own stems from an earlier process whose clock was ahead: this process then jumps past it.
func (t *table) merge(r record, now time.Time) bool {
	if r.Node == t.self.Node {
		if !r.newer(t.self.stamp) {
			return false
		}
		t.self.incarnation = r.incarnation + 1
		return true
	}
	t.spoken[r.Node] = now
	old, had := t.records[r.Node]
	k := old.with(r)
	k.at = now
	t.records[r.Node] = k
	if k.goodbye {
		delete(t.lost, r.Node)
	}
	return k.stamp != old.stamp && (!had || !equal(k.Member, old.Member))
}

// with takes in what r has to add. A whole record may come after differences to it, and after younger differences.
func (k known) with(r record) known {
	switch {
	case r.base != 0 && r.newer(k.pending.stamp):
		k.pending = r
	case r.base == 0 && r.newer(k.whole.stamp):
		k.whole = r
		if r.newer(k.stamp) {
			k.record = r
		}
	}
	for _, base := range []record{k.whole, k.record} {
		if whole, ok := k.pending.on(base); ok && whole.newer(k.stamp) {
			k.record = whole
		}
	}
	if !k.pending.newer(k.stamp) {
		k.pending = record{}
	}
	return k
}

func (t *table) join(node lb.NodeName, addr netip.AddrPort) {
	t.alive[node] = addr
	delete(t.lost, node)
}

func (t *table) leave(node lb.NodeName, now time.Time) {
	if addr, ok := t.alive[node]; ok && !t.records[node].goodbye {
		t.lost[node] = lost{addr, now}
	}
	delete(t.alive, node)
	delete(t.spoken, node) // what was said before has come true or is void
}

// known returns where the living members and those that went without goodbye are, without this node.
func (t *table) known(now time.Time) map[lb.NodeName]netip.Addr {
	out := make(map[lb.NodeName]netip.Addr, len(t.alive)+len(t.lost))
	for node, addr := range t.alive {
		out[node] = addr.Addr()
	}
	for node, l := range t.lost {
		if now.Sub(l.at) <= forget {
			out[node] = l.addr.Addr()
		}
	}
	return out
}

// livesAt reports whether a living member is at addr.
func (t *table) livesAt(addr netip.AddrPort) bool {
	for _, a := range t.alive {
		if a == addr {
			return true
		}
	}
	return false
}

// upToDate reports whether an exchange that began no earlier than since has succeeded, and every node spoken of afterwards is
// alive here.
func (t *table) upToDate(since time.Time) bool {
	if t.asked.Before(since) {
		return false
	}
	for node, at := range t.spoken {
		if _, alive := t.alive[node]; at.After(since) && !alive {
			return false
		}
	}
	return true
}

// prune forgets nodes that have been away for long.
func (t *table) prune(now time.Time) {
	maps.DeleteFunc(t.lost, func(_ lb.NodeName, l lost) bool { return now.Sub(l.at) > forget })
	maps.DeleteFunc(t.spoken, func(_ lb.NodeName, at time.Time) bool { return now.Sub(at) > forget })
	maps.DeleteFunc(t.records, func(n lb.NodeName, k known) bool { _, ok := t.alive[n]; return !ok && now.Sub(k.at) > forget })
}

// members returns the living members, this one included, sorted by node. One that has not spoken yet is not ready. One that was
// lost, but that heard says is heard, lives: memberlist finishes a suspicion that it conceived while this node was cut off.
func (t *table) members(heard func(lb.NodeName) bool) []lb.Member {
	out := []lb.Member{t.self.Member}
	add := func(node lb.NodeName) {
		m := t.records[node].Member
		m.Node = node
		out = append(out, m)
	}
	for node := range t.alive {
		add(node)
	}
	for node := range t.lost {
		if heard(node) {
			add(node)
		}
	}
	slices.SortFunc(out, func(a, b lb.Member) int { return strings.Compare(string(a.Node), string(b.Node)) })
	return out
}

// all returns the records of the living members, this one's first.
func (t *table) all() []record {
	out := []record{t.self}
	for node := range t.alive {
		if k, ok := t.records[node]; ok && k.stamp != (stamp{}) {
			out = append(out, k.record)
		}
	}
	return out
}
