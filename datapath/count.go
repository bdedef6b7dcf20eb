package datapath

import (
	"cmp"
	"maps"
	"net/netip"
	"time"
)

// Count is what a kernel counted on a listener, or at one endpoint behind it, since an engine wrote it there. A restart of the engine
// and somebody's flush begin anew at 0, and so does an endpoint that returns, unless IPVS still knows it.
type Count struct {
	Listener    Listener
	Destination netip.AddrPort // zero: all of the listener
	Conns       uint64         // that were opened
	Bytes       uint64         // in both directions, IP headers included
	Opening     uint64         // those of Bytes that begin anew whenever Conns do, while the others go on
}

// Compare orders counts by listener and destination.
func (c Count) Compare(o Count) int {
	return cmp.Or(c.Listener.Compare(o.Listener), c.Destination.Compare(o.Destination))
}

// remembered is for how long a place that is in no reading is known. IPVS has an endpoint that returns go on from its old counts while it has
// connections, and for up to three minutes more.
const remembered = 10 * time.Minute

// Tally adds up counts that begin anew now and then. The zero value is empty.
type Tally struct {
	places map[counted]tallied
	read   time.Time // the last reading
}

type counted struct {
	listener    Listener
	destination netip.AddrPort
}

type tallied struct {
	last, total amount
	read        time.Time // the last reading that the place was in
}

type amount struct{ conns, opening, rest uint64 }

// Add takes in a reading and returns it with totals in counted of counts, and with what is new since the reading before. What falls is taken
// to have begun anew at 0; so what was counted between the last reading and that is lost. The total of a place that a reading does not have
// is forgotten, and begins with what the kernel counts there if it returns; what is new is then only what is above its last count.
func (t *Tally) Add(reading []Count, now time.Time) (totals, growth []Count) {
	if t.places == nil {
		t.places = make(map[counted]tallied, len(reading))
	}
	totals, growth = make([]Count, 0, len(reading)), make([]Count, 0, len(reading))
	for _, c := range reading {
		p := counted{c.Listener, c.Destination}
		was, is := t.places[p], amount{c.Conns, c.Opening, c.Bytes - c.Opening}
		grown := amount{since(was.last.conns, is.conns), since(was.last.opening, is.opening), since(was.last.rest, is.rest)}
		total := is
		if was.read.Equal(t.read) {
			total = amount{was.total.conns + grown.conns, was.total.opening + grown.opening, was.total.rest + grown.rest}
		}
		t.places[p] = tallied{is, total, now}
		totals, growth = append(totals, p.count(total)), append(growth, p.count(grown))
	}
	maps.DeleteFunc(t.places, func(_ counted, p tallied) bool { return now.Sub(p.read) > remembered })
	t.read = now
	return totals, growth
}

func (p counted) count(a amount) Count {
	return Count{Listener: p.listener, Destination: p.destination, Conns: a.conns, Bytes: a.opening + a.rest, Opening: a.opening}
}

func since(before, now uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}
