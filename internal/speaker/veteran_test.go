package speaker

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// veteran is an engine whose kernel has counted for an earlier process.
type veteran struct {
	fakeEngine
	conns atomic.Uint64
}

// Counts implements Counter.
func (v *veteran) Counts(context.Context) ([]datapath.Count, error) {
	return []datapath.Count{{Listener: datapath.Listener{Addr: netip.AddrPortFrom(vip, 80), Protocol: lb.TCP}, Destination: endpoint("n1").Addr, Conns: v.conns.Load()}}, nil
}

// HandedOn implements Counter.
func (v *veteran) HandedOn() (uint64, error) { return 0, nil }

// TestCountsOfAnEarlierProcessAreNotOurs: they would be counted again whenever a speaker is replaced.
func TestCountsOfAnEarlierProcessAreNotOurs(t *testing.T) {
	e := &veteran{}
	e.conns.Store(100)
	inWorldOf(t, 1, func(t *testing.T, w *world) {
		e.conns.Add(7)
		if _, got := w.nodes["n1"].readTraffic(); len(got) != 1 || got[0].conns != 7 {
			t.Errorf("%+v, want 7 connections of one Service", got)
		}
	}, func(n *node, o *Options) {
		e.fakeEngine = fakeEngine{n}
		o.Engine = e
	})
}
