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

// refresh brings the record up to date: from the kernel if it has never been read, if somebody else changed it or from time to
// time; otherwise only the connection counts of destinations that wait for their end.
func (e *Engine) refresh(ctx context.Context, want datapath.State, now time.Time) error {
	if e.read.IsZero() || now.Sub(e.read) >= readEvery {
		return e.readAll(ctx, want.VIPs, now)
	}
	if now.Sub(e.verified) >= verifyEvery {
		e.verified = now
		same, err := e.unchanged(ctx)
		if err != nil {
			return err
		}
		if !same {
			return e.readAll(ctx, want.VIPs, now)
		}
	}
	return e.countConns(ctx)
}

// unchanged reports whether the kernel has the VIPs and virtual servers of the record and no others at those VIPs.
func (e *Engine) unchanged(ctx context.Context) (bool, error) {
	vips, err := e.vips()
	if err != nil {
		return false, err
	}
	if !slices.Equal(vips, e.have.VIPs) {
		return false, nil
	}
	servers, err := e.kernel.services(ctx, e.have.VIPs)
	if err != nil {
		return false, err
	}
	return slices.EqualFunc(servers, e.have.Servers, func(a, b datapath.VirtualServer) bool {
		return a.Listener == b.Listener && a.Scheduler == b.Scheduler && a.Affinity == b.Affinity
	}), nil
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
// that is wanted now. What IPVS does not know about a server (its Service, verdict, source ranges) is taken over from the old record,
// as are the deadlines.
func (e *Engine) readAll(ctx context.Context, wanted []netip.Addr, now time.Time) error {
	vips, err := e.vips()
	if err != nil {
		return err
	}
	guarded, err := e.Guard.VIPs(ctx)
	if err != nil {
		return err
	}
	have := datapath.State{VIPs: vips}
	if have.Servers, err = e.kernel.services(ctx, union(vips, guarded, wanted, held(e.have))); err != nil {
		return err
	}
	for i := range have.Servers {
		v := &have.Servers[i]
		dests, err := e.kernel.destinations(ctx, *v)
		if err != nil {
			return err
		}
		if old, ok := e.have.Server(v.Listener); ok {
			scheduler, affinity := v.Scheduler, v.Affinity
			*v = old
			v.Scheduler, v.Affinity = scheduler, affinity
			keepDeadlines(dests, old.Destinations)
		}
		v.Destinations = dests
	}
	e.have, e.read, e.verified = have, now, now
	return nil
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
		if !slices.ContainsFunc(v.Destinations, func(d datapath.Destination) bool { return d.Weight == 0 }) {
			continue
		}
		dests, err := e.kernel.destinations(ctx, v)
		if err != nil {
			e.read = time.Time{}
			return fmt.Errorf("counting connections: %w", err)
		}
		keepDeadlines(dests, v.Destinations)
		e.have.Servers[i].Destinations = dests
	}
	return nil
}
