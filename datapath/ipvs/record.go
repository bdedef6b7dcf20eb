package ipvs

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
)

// refresh brings the record up to date: from the kernel if it has never been read or if somebody else changed it; otherwise only the
// connection counts of servers with destinations that wait for their end.
func (e *Engine) refresh(ctx context.Context, vips []netip.Addr, servers []*datapath.VirtualServer, now time.Time) error {
	if !e.read {
		return e.readAll(ctx, vips, servers, now)
	}
	if now.Sub(e.verified) >= verifyEvery {
		same, err := e.verify(ctx, now)
		if err != nil {
			return err
		}
		if !same {
			return e.readAll(ctx, vips, servers, now)
		}
	}
	return e.countConns(ctx)
}

// verify compares some servers and VIPs with the kernel, as many as the time since the last look has a share in readEvery, and goes on
// behind them next time. A flush shows whichever servers it looks at.
func (e *Engine) verify(ctx context.Context, now time.Time) (same bool, err error) {
	share := min(1, float64(now.Sub(e.verified))/float64(readEvery))
	e.verified = now
	n := len(e.have.Servers)
	for range min(n, max(verifyLeast, int(share*float64(n)+0.5))) {
		e.cursor = (e.cursor + 1) % n
		if same, err := e.verifyOne(ctx, e.have.Servers[e.cursor]); err != nil || !same {
			return false, err
		}
	}
	n = len(e.have.VIPs)
	for i := range min(n, max(verifyLeast, int(share*float64(n)+0.5))) {
		if has, err := e.Local.Has(e.have.VIPs[(e.cursor+i)%n]); err != nil || !has {
			return false, err
		}
	}
	return true, nil
}

func (e *Engine) verifyOne(ctx context.Context, v *datapath.VirtualServer) (same bool, err error) {
	found, ok, err := e.kernel.service(ctx, v)
	if err != nil || !ok || found.Scheduler != v.Scheduler || found.Affinity != v.Affinity {
		return false, err
	}
	dests, err := e.kernel.destinations(ctx, v)
	return slices.EqualFunc(dests, v.Destinations, func(a, b datapath.Destination) bool {
		return a.Addr == b.Addr && a.Weight == b.Weight && a.Method == b.Method
	}), err
}

// vips returns the VIPs that the node delivers for us. Those that it had anyway are asked for again, in case it lost them.
func (e *Engine) vips() ([]netip.Addr, error) {
	for vip := range e.borrowed {
		if err := e.up(vip); err != nil {
			return nil, err
		}
	}
	ours, err := e.Local.Read()
	return union(ours, slices.Collect(maps.Keys(e.borrowed))), err
}

// readAll replaces the record by what the kernel holds. Ours is what sits at a VIP that carries our mark, that the guard knows, or
// that is wanted now; at the node's own addresses, the listeners that the guard knows, that were in the record or are wanted. What IPVS
// does not know about a server (its Service, verdict, source ranges) is taken over from the old record, as are the deadlines.
func (e *Engine) readAll(ctx context.Context, wanted []netip.Addr, servers []*datapath.VirtualServer, now time.Time) error {
	vips, err := e.vips()
	if err != nil {
		return err
	}
	guarded, atNode, err := e.Guard.Owned(ctx)
	if err != nil {
		return err
	}
	all := union(vips, guarded, wanted, e.have.VIPs)
	known, want := e.have, datapath.State{Servers: servers}
	e.reserve(servers)
	have := datapath.State{VIPs: vips}
	have.Servers, err = e.kernel.services(ctx, func(l datapath.Listener) bool {
		if _, vip := slices.BinarySearchFunc(all, l.Addr.Addr(), netip.Addr.Compare); vip || l.Inside {
			return true
		}
		_, recorded := known.Server(l)
		_, wanted := want.Server(l)
		_, told := slices.BinarySearchFunc(atNode, l, datapath.Listener.Compare)
		return recorded || wanted || told
	})
	if err != nil {
		return err
	}
	for _, v := range have.Servers { // nobody else has them yet
		dests, err := e.kernel.destinations(ctx, v)
		if err != nil {
			return err
		}
		if old, ok := known.Server(v.Listener); ok {
			scheduler, affinity := v.Scheduler, v.Affinity
			*v = old
			v.Scheduler, v.Affinity = scheduler, affinity
			keepDeadlines(dests, old.Destinations)
		}
		v.Destinations = dests
	}
	e.have, e.shared, e.read, e.verified, e.cursor = have, false, true, now, 0
	return nil
}

// reread brings the record of one server up to date, of which IPVS has not taken what was wanted. So one that it never takes costs no look at
// all others.
func (e *Engine) reread(ctx context.Context, v *datapath.VirtualServer) error {
	found, has, err := e.kernel.service(ctx, v)
	if err != nil {
		return err
	}
	e.own()
	i, recorded := slices.BinarySearchFunc(e.have.Servers, v.Listener, byListener)
	switch {
	case !has && recorded:
		e.have.Servers = slices.Delete(e.have.Servers, i, i+1)
		return nil
	case !has:
		return nil
	case recorded:
		v = e.have.Servers[i]
	default:
		e.have.Servers = slices.Insert(e.have.Servers, i, v)
	}
	dests, err := e.kernel.destinations(ctx, found)
	if err != nil {
		return err
	}
	keepDeadlines(dests, v.Destinations)
	now := *v
	now.Scheduler, now.Affinity, now.Destinations = found.Scheduler, found.Affinity, dests
	e.have.Servers[i] = &now
	return nil
}

// reserve gives the listeners for the inside their marks, so that they are recognised.
func (e *Engine) reserve(servers []*datapath.VirtualServer) {
	for _, v := range servers {
		if v.Inside {
			e.Marks.Of(v.Listener)
		}
	}
}

func keepDeadlines(dests, old []datapath.Destination) {
	for i, d := range dests {
		j, ok := slices.BinarySearchFunc(old, d.Addr, func(d datapath.Destination, a netip.AddrPort) int { return d.Addr.Compare(a) })
		if ok && d.Weight == 0 {
			dests[i].Until = old[j].Until
		}
	}
}

// countConns reads the connections of servers that have destinations without weight, and of no others.
func (e *Engine) countConns(ctx context.Context) error {
	for i, v := range e.have.Servers {
		if !retiring(v) {
			continue
		}
		dests, err := e.kernel.destinations(ctx, v)
		if err != nil {
			e.read = false
			return fmt.Errorf("counting connections: %w", err)
		}
		keepDeadlines(dests, v.Destinations)
		now := *v
		now.Destinations = dests
		e.own()
		e.have.Servers[i] = &now
	}
	return nil
}
