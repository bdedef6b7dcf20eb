package ipvs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
)

// Guard decides who may connect to a VIP and who is masqueraded; datapath/nft.Table is one. VIPs returns those that the kernel has
// been told, by this process or an earlier one.
type Guard interface {
	VIPs(ctx context.Context) ([]netip.Addr, error)
	Set(ctx context.Context, s datapath.State, now time.Time) error
	Delete(ctx context.Context) error
}

// Local makes the node take packets for a VIP; datapath/link.Routes does. Read returns what Up added; Up adds nothing for an
// address that the node has anyway.
type Local interface {
	Read() ([]netip.Addr, error)
	Up(vip netip.Addr) (added bool, err error)
	Down(vip netip.Addr) error
}

// Flows forgets what conntrack remembers about endpoints that are gone; datapath/conntrack.Flows does.
type Flows interface {
	Forget(ctx context.Context, have, want datapath.State) error
}

// How often at most the engine's record is compared with the kernel: the list of virtual servers and VIPs; everything.
const (
	verifyEvery = time.Second
	readEvery   = 5 * time.Minute
)

// Options are the engine's neighbours; all are required.
type Options struct {
	Guard Guard
	Local Local
	Flows Flows
}

func (o Options) validate() error {
	if o.Guard == nil || o.Local == nil || o.Flows == nil {
		return errors.New("opening IPVS engine: guard, local delivery and flows are required")
	}
	return nil
}

// backend is IPVS without its neighbours; tests put a fake here.
type backend interface {
	services(ctx context.Context, vips []netip.Addr) ([]datapath.VirtualServer, error)
	destinations(ctx context.Context, v datapath.VirtualServer) ([]datapath.Destination, error)
	apply(ctx context.Context, op datapath.Op) error
	close()
}

// Engine keeps IPVS and its neighbours in agreement with a state. It is not safe for concurrent use.
type Engine struct {
	Options
	kernel   backend
	have     datapath.State      // the record of what the kernel holds
	borrowed map[netip.Addr]bool // VIPs that the node delivers without our doing
	read     time.Time           // when have was read in full; zero = never
	verified time.Time
	writes   int
}

// New returns an engine for a kernel that [Probe] approved of. It changes nothing until Sync.
func New(o Options) (*Engine, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Engine{Options: o, kernel: &kernel{}, borrowed: map[netip.Addr]bool{}}, nil
}

// Name returns "ipvs".
func (e *Engine) Name() string { return "ipvs" }

// Sync leads the kernel towards want and returns what it holds then. Destinations that are not wanted any more may be in it, without
// weight, until their connections have ended: call Sync again from time to time, with the same want if nothing else happens. An
// operation that fails does not stop those on other servers; the VIPs that lack something are named in the state's Partial.
func (e *Engine) Sync(ctx context.Context, want datapath.State, now time.Time) (datapath.State, error) {
	want = want.Plain()
	if err := e.refresh(ctx, want, now); err != nil {
		return e.have, err
	}
	before := e.have.Clone()
	guarded := between(before, want)
	if err := e.Guard.Set(ctx, guarded, now); err != nil {
		return e.have, err // nothing has changed
	}
	ops := datapath.Diff(e.have, want, now)
	lacking, err := e.apply(ctx, ops)
	e.have.Partial = lacking
	errs := []error{err}
	if after := (datapath.State{VIPs: held(e.have), Servers: want.Servers}); !after.Equal(guarded) {
		errs = append(errs, e.Guard.Set(ctx, after, now))
	}
	if len(ops) > 0 {
		errs = append(errs, e.Flows.Forget(ctx, before, want))
	}
	return e.have.Clone(), errors.Join(errs...)
}

// between is what the guard holds while the kernel goes from have to want: it stands before a VIP comes up and until it is down, and
// goes on masquerading until the far endpoints, which could not answer otherwise, are out of service.
func between(have, want datapath.State) datapath.State {
	out := datapath.State{VIPs: union(held(have), want.VIPs), Servers: slices.Clone(want.Servers)}
	for i, w := range out.Servers {
		h, _ := have.Server(w.Listener)
		out.Servers[i].Masquerade = w.Masquerade | h.Masquerade
	}
	return out
}

// held returns the VIPs of a state, and the addresses of its servers, should one have outlived its VIP.
func held(s datapath.State) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(s.Servers))
	for _, v := range s.Servers {
		addrs = append(addrs, v.Addr.Addr())
	}
	return union(s.VIPs, addrs)
}

// apply carries the operations out, keeps the record, and returns the VIPs on which something failed, sorted. What depends on a
// failed operation is not tried: destinations of a server that could not be added, and taking a VIP down that still has servers.
func (e *Engine) apply(ctx context.Context, ops []datapath.Op) (lacking []netip.Addr, err error) {
	var errs []error
	absent, failed := map[datapath.Listener]bool{}, map[netip.Addr]bool{}
	for _, op := range ops {
		vip := op.VIP
		if !vip.IsValid() {
			vip = op.Server.Addr.Addr()
		}
		if absent[op.Server.Listener] || op.Verb == datapath.VIPDown && failed[vip] {
			continue
		}
		if err := e.applyOne(ctx, op); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", op, err))
			failed[vip] = true
			absent[op.Server.Listener] = op.Verb == datapath.AddServer
			e.read = time.Time{} // the record may be wrong: look at the kernel next time
		}
	}
	return slices.SortedFunc(maps.Keys(failed), netip.Addr.Compare), errors.Join(errs...)
}

func (e *Engine) applyOne(ctx context.Context, op datapath.Op) error {
	if err := e.carryOut(ctx, op); err != nil {
		return err
	}
	return e.have.Apply(op)
}

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

// Writes returns how many operations IPVS and the routing table were asked for so far.
func (e *Engine) Writes() int { return e.writes }

// Cleanup removes our VIPs, everything that IPVS holds at them, and the guard.
func (e *Engine) Cleanup(ctx context.Context) error {
	if err := e.readAll(ctx, nil, time.Time{}); err != nil {
		return err
	}
	before := e.have.Clone()
	_, err := e.apply(ctx, datapath.Diff(e.have, datapath.State{}, time.Time{}))
	e.read = time.Time{}
	err = errors.Join(err, e.Guard.Delete(ctx), e.Flows.Forget(ctx, before, datapath.State{}))
	e.kernel.close()
	return err
}

func union(sets ...[]netip.Addr) []netip.Addr {
	out := slices.Concat(sets...)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
