package gossip

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// table holds everything this member knows about the others. It is not safe for concurrent use and reads no clock.
type table struct {
	self    record
	alive   map[lb.NodeName]netip.AddrPort // per memberlist, without this node
	records map[lb.NodeName]known          // of others, alive or not: a record may arrive before its node
	peers   map[netip.AddrPort]time.Time   // where members were seen alive last
	spoken  map[lb.NodeName]time.Time      // when another member last sent the record of a node, its own or one that it holds for living
}

type known struct {
	record
	at time.Time // when it arrived
}

// forget is how long the record and address of a node that is not alive are kept.
const forget = 24 * time.Hour

func newTable(self lb.NodeName, incarnation uint64) *table {
	return &table{
		self:    record{Member: lb.Member{Node: self}, stamp: stamp{incarnation, 1}},
		alive:   map[lb.NodeName]netip.AddrPort{},
		records: map[lb.NodeName]known{},
		peers:   map[netip.AddrPort]time.Time{},
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
	old, ok := t.records[r.Node]
	if ok && !r.newer(old.stamp) {
		return false
	}
	t.records[r.Node] = known{r, now}
	return !ok || !equal(r.Member, old.Member)
}

func (t *table) join(node lb.NodeName, addr netip.AddrPort, now time.Time) {
	t.alive[node] = addr
	t.peers[addr] = now
}

func (t *table) leave(node lb.NodeName, now time.Time) {
	if addr, ok := t.alive[node]; ok {
		t.peers[addr] = now
	}
	delete(t.alive, node)
}

// upToDate reports whether others were spoken of after since, and all of those are alive here.
func (t *table) upToDate(since time.Time) bool {
	heard := false
	for node, at := range t.spoken {
		if !at.After(since) {
			continue
		}
		if _, alive := t.alive[node]; !alive {
			return false
		}
		heard = true
	}
	return heard
}

// prune forgets nodes that have been away for long.
func (t *table) prune(now time.Time) {
	alive := map[netip.AddrPort]bool{}
	for _, addr := range t.alive {
		alive[addr] = true
	}
	maps.DeleteFunc(t.peers, func(a netip.AddrPort, at time.Time) bool { return !alive[a] && now.Sub(at) > forget })
	maps.DeleteFunc(t.spoken, func(_ lb.NodeName, at time.Time) bool { return now.Sub(at) > forget })
	maps.DeleteFunc(t.records, func(n lb.NodeName, k known) bool { _, ok := t.alive[n]; return !ok && now.Sub(k.at) > forget })
}

// members returns the living members, this one included, sorted by node. One that has not spoken yet is not ready.
func (t *table) members() []lb.Member {
	out := []lb.Member{t.self.Member}
	for node := range t.alive {
		m := t.records[node].Member
		m.Node = node
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b lb.Member) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	return out
}

// all returns the records of the living members, this one's first.
func (t *table) all() []record {
	out := []record{t.self}
	for node := range t.alive {
		if k, ok := t.records[node]; ok {
			out = append(out, k.record)
		}
	}
	return out
}

func equal(a, b lb.Member) bool {
	return a.Node == b.Node && a.Draining == b.Draining && a.Ready == b.Ready && slices.Equal(a.Claims, b.Claims) &&
		slices.Equal(a.Failing, b.Failing) && slices.Equal(a.Suspects, b.Suspects) && slices.EqualFunc(a.Links, b.Links, func(x, y lb.Link) bool {
		return x.Name == y.Name && x.Index == y.Index && x.MAC == y.MAC && x.Up == y.Up && slices.Equal(x.Prefixes, y.Prefixes)
	})
}
