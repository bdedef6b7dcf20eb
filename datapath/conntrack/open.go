package conntrack

import (
	"context"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// tcpEstablished is TCP_CONNTRACK_ESTABLISHED of nf_conntrack_tcp.h.
const tcpEstablished = 3

// Open returns how many connections each endpoint of s carries now: established ones of TCP, flows of other protocols that are not
// forgotten yet. Those of a listener for everybody and of one for the inside are not told apart: they count for everybody's. The whole
// table is read, 100,000 flows in some tenths of a second; while it changes quickly the numbers may be a little off. It is safe for
// concurrent use: one call reads, the others wait for it.
func (f *Flows) Open(ctx context.Context, s datapath.State) (map[datapath.Count]int, error) {
	f.open.Lock()
	defer f.open.Unlock()
	o := newTally(s)
	families := map[uint8]bool{}
	for _, v := range s.Servers {
		families[familyOf(v.Addr.Addr())] = true
	}
	for family := range families {
		if err := ctx.Err(); err != nil { // it has waited too long
			return nil, err
		}
		count := func(e entry, _ []byte) bool {
			o.add(e)
			return true
		}
		if _, err := f.read(ctx, family, count); err != nil {
			return nil, err
		}
	}
	return o.open, nil
}

// tally counts flows by listener and endpoint.
type tally struct {
	rules
	open map[datapath.Count]int
}

func newTally(s datapath.State) tally {
	t := tally{newRules(map[datapath.Listener]endpoints{}, s.NodeAddrs), map[datapath.Count]int{}}
	for _, v := range s.Servers {
		t.listeners[v.Listener.ForEverybody()] = nil
	}
	return t
}

func (t tally) add(e entry) {
	l, _, ours := t.find(e)
	if !ours || e.from == l.Addr {
		return
	}
	if l.Protocol == lb.TCP && e.state != 0 && e.state != tcpEstablished {
		return
	}
	t.open[datapath.Count{Listener: l, Destination: e.from}]++
}
