package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// failures is what went wrong on the way to a state.
type failures struct {
	at        map[netip.Addr]bool // addresses of which something failed
	unguarded datapath.Rejected   // servers that the guard does not take
	rejected  datapath.Rejected   // servers that IPVS does not take as they are wanted
	errs      []error
}

func (f *failures) err() error {
	if len(f.unguarded) > 0 {
		return errors.Join(append(f.errs, f.unguarded)...)
	}
	return errors.Join(f.errs...)
}

func (f *failures) add(op datapath.Op, addr netip.Addr, err error) {
	if f.at == nil {
		f.at = map[netip.Addr]bool{}
	}
	f.at[addr] = true
	f.errs = append(f.errs, errorOn(op, err))
	switch op.Verb {
	case datapath.AddServer, datapath.EditServer, datapath.AddDestination, datapath.MoveDestination, datapath.EditDestination:
		f.rejected = append(f.rejected, datapath.Rejection{Server: op.Server, Err: err})
	}
}

// apply carries the operations out, keeps the record, and notes what failed. What depends on a failed
// operation is not tried: destinations of a server that could not be added, and taking a VIP down on which something failed.
func (e *Engine) apply(ctx context.Context, ops []datapath.Op, f *failures) {
	absent := map[datapath.Listener]bool{}
	for _, op := range ops {
		addr := op.VIP
		if !addr.IsValid() {
			addr = op.Server.Addr.Addr()
		}
		if absent[op.Server.Listener] || op.Verb == datapath.VIPDown && f.at[addr] {
			continue
		}
		if err := e.applyOne(ctx, op); err != nil {
			f.add(op, addr, err)
			absent[op.Server.Listener] = op.Verb == datapath.AddServer
			if op.VIP.IsValid() || e.reread(ctx, &op.Server) != nil {
				e.read = false // the record may be wrong: look at the kernel next time
			}
		}
	}
}

// applyOne carries out one operation. A scheduler that the kernel does not have is replaced by the one that it always has (S77).
func (e *Engine) applyOne(ctx context.Context, op datapath.Op) error {
	isServer := op.Verb == datapath.AddServer || op.Verb == datapath.EditServer
	if isServer && !op.Server.Direct && e.missing[op.Server.Scheduler] { // asked for another server already: the kernel looks for a module each time
		op.Server.Scheduler = datapath.RoundRobin
	}
	err := e.carryOut(ctx, op)
	if isServer && op.Server.Direct && errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("scheduler %s, which needs module ip_vs_mh: %w", op.Server.Scheduler, err)
	}
	if isServer && op.Server.Scheduler != datapath.RoundRobin && errors.Is(err, unix.ENOENT) {
		e.missing[op.Server.Scheduler] = true
		op.Server.Scheduler = datapath.RoundRobin
		err = e.carryOut(ctx, op)
	}
	if err != nil {
		return err
	}
	e.own()
	return e.have.Apply(op)
}

// replaced names the Services that have round robin in place of a scheduler that the kernel lacks.
func (e *Engine) replaced() (out []datapath.Refused) {
	if len(e.missing) == 0 {
		return nil
	}
	named := map[lb.ServiceKey]bool{}
	for _, v := range e.guarded.Servers {
		if e.missing[v.Scheduler] && !v.Direct && !v.Tunnelled && !named[v.Service] {
			named[v.Service] = true
			out = append(out, datapath.SchedulerMissing(v.Service, v.Scheduler))
		}
	}
	return out
}

func byListener(v *datapath.VirtualServer, l datapath.Listener) int { return v.Listener.Compare(l) }

func (e *Engine) carryOut(ctx context.Context, op datapath.Op) error {
	if !e.concerns(op) {
		return nil
	}
	e.writes++
	switch op.Verb {
	case datapath.VIPUp:
		return e.up(op.VIP)
	case datapath.VIPDown:
		if e.borrowed[op.VIP] {
			delete(e.borrowed, op.VIP)
			return nil
		}
		return e.Local.Down(op.VIP)
	case datapath.MoveDestination:
		if err := e.Tunnels.Spare(true); err != nil {
			return err
		}
		return errors.Join(e.kernel.apply(ctx, op), e.Tunnels.Spare(false))
	default:
		return e.kernel.apply(ctx, op)
	}
}

func (e *Engine) up(vip netip.Addr) error {
	added, err := e.Local.Up(vip)
	if added || err != nil {
		delete(e.borrowed, vip)
	} else {
		e.borrowed[vip] = true
	}
	return err
}

// concerns reports whether the kernel has to change: not for what only the guard does or only the record keeps.
func (e *Engine) concerns(op datapath.Op) bool {
	v, ok := e.have.Server(op.Server.Listener)
	switch {
	case ok && op.Verb == datapath.EditServer:
		return v.Scheduler != op.Server.Scheduler || v.Affinity != op.Server.Affinity
	case ok && op.Verb == datapath.EditDestination:
		i := slices.IndexFunc(v.Destinations, func(d datapath.Destination) bool { return d.Addr == op.Destination.Addr })
		return i < 0 || v.Destinations[i].Weight != op.Destination.Weight || v.Destinations[i].Method != op.Destination.Method
	default:
		return true
	}
}
