package datapath

import (
	"cmp"
	"net/netip"
)

// Count is what a kernel counted on a listener, or at one endpoint behind it, since an engine wrote it there. A restart of the engine,
// somebody's flush and the endpoint's return begin anew at 0.
type Count struct {
	Listener    Listener
	Destination netip.AddrPort // zero: all of the listener
	Conns       uint64         // that were opened
	Bytes       uint64         // in both directions, IP headers included
}

// Compare orders counts by listener and destination.
func (c Count) Compare(o Count) int {
	return cmp.Or(c.Listener.Compare(o.Listener), c.Destination.Compare(o.Destination))
}

// Tally adds up counts that begin anew now and then. The zero value is empty.
type Tally struct {
	seen map[counted]tallied
}

type counted struct {
	listener    Listener
	destination netip.AddrPort
}

type tallied struct {
	last, total Count
}

// Add takes in a reading and returns it with totals in counted of counts. What falls is taken to have begun anew at 0; so what was counted
// between the last reading and that is lost. Places that are not in the reading are forgotten.
func (t *Tally) Add(reading []Count) []Count {
	seen := make(map[counted]tallied, len(reading))
	out := make([]Count, 0, len(reading))
	for _, c := range reading {
		p := counted{c.Listener, c.Destination}
		was := t.seen[p]
		now := tallied{last: c, total: c}
		now.total.Conns = was.total.Conns + since(was.last.Conns, c.Conns)
		now.total.Bytes = was.total.Bytes + since(was.last.Bytes, c.Bytes)
		seen[p] = now
		out = append(out, now.total)
	}
	t.seen = seen
	return out
}

func since(before, now uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}
