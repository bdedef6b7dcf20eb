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

// Guard decides who may connect to a VIP and who is masqueraded, and marks connections from the inside; datapath/nft.Table is one.
// An error of Set that is datapath.Rejected names the servers that it does not let anybody reach; everything else is in force.
// HandedOn returns how many packets it has had other nodes get; it may be called while Set runs.
// Owned returns what the kernel has been told of, by this process or an earlier one: the VIPs, and the listeners at other addresses, which are
// the node's, its node ports at each of them.
type Guard interface {
	Owned(ctx context.Context) (vips []netip.Addr, atNode []datapath.Listener, err error)
	Set(ctx context.Context, s datapath.State, now time.Time) error
	Delete(ctx context.Context) error
	HandedOn() (packets uint64, err error)
}

// Local makes the node take packets for a VIP; datapath/link.Routes does. Read returns what Up added; Up adds nothing for an
// address that the node has anyway. Has tells whether the node takes packets for an address, for whatever reason.
type Local interface {
	Read() ([]netip.Addr, error)
	Has(vip netip.Addr) (bool, error)
	Up(vip netip.Addr) (added bool, err error)
	Down(vip netip.Addr) error
}

// Tunnels let this node take part in direct server return; datapath/link.Tunnels does. Up returns what the network takes on the way to the
// endpoints and peers. Down takes everything back. With Spare connections outlive that IPVS forgets their destination for a moment.
type Tunnels interface {
	Up(endpoints, peers []netip.Addr) (datapath.MTU, error)
	Down() error
	Spare(connections bool) error
}

// Flows forgets what conntrack remembers about endpoints that are gone; datapath/conntrack.Flows does. Of have and want it needs the servers in
// which they differ. Every Sync that has come to the kernel calls it, if only for what an earlier call has left undone.
type Flows interface {
	Forget(ctx context.Context, have, want datapath.State) error
}

// How the engine's record is compared with the kernel: every verifyEvery at most some virtual servers, and all of them in the course
// of readEvery.
const (
	verifyEvery = time.Second
	readEvery   = 5 * time.Minute
	verifyLeast = 8
)

// chunk is how many virtual servers are changed at a time; more would only cost memory.
const chunk = 256

// Options are the engine's neighbours; all are required.
type Options struct {
	Guard   Guard
	Local   Local
	Tunnels Tunnels
	Flows   Flows
	Marks   *Marks // the guard uses the same
}

func (o Options) validate() error {
	if o.Guard == nil || o.Local == nil || o.Tunnels == nil || o.Flows == nil || o.Marks == nil {
		return errors.New("opening IPVS engine: guard, local delivery, tunnels, flows and marks are required")
	}
	return nil
}

// backend is IPVS without its neighbours; tests put a fake here.
type backend interface {
	services(ctx context.Context, ours func(datapath.Listener) bool) ([]*datapath.VirtualServer, error)
	service(ctx context.Context, v *datapath.VirtualServer) (found *datapath.VirtualServer, ok bool, err error)
	destinations(ctx context.Context, v *datapath.VirtualServer) ([]datapath.Destination, error)
	apply(ctx context.Context, op datapath.Op) error
	close()
}

// Engine keeps IPVS and its neighbours in agreement with a state. It is not safe for concurrent use.
type Engine struct {
	Options
	kernel   backend
	have     datapath.State      // the record of what the kernel holds; node ports are servers at each node address
	guarded  datapath.State      // what the guard was told last
	borrowed map[netip.Addr]bool // VIPs that the node delivers without our doing
	missing  map[string]bool     // schedulers that the kernel does not have, as it said after tried
	tried    time.Time
	tunnels  tunnels
	read     bool // have is the kernel's content
	shared   bool // others hold have's lists too, which must stay as they are
	verified time.Time
	cursor   int // where verification goes on
	writes   int
}

// New returns an engine for a kernel that [Probe] approved of. It changes nothing until Sync.
func New(o Options) (*Engine, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return newEngine(o, &kernel{marks: o.Marks}), nil
}

func newEngine(o Options, k backend) *Engine {
	return &Engine{Options: o, kernel: k, borrowed: map[netip.Addr]bool{}, missing: map[string]bool{}}
}

// Name returns "ipvs".
func (e *Engine) Name() string { return "ipvs" }

// Sync leads the kernel towards want and returns what it holds then. Destinations that are not wanted any more may be in it, without
// weight, until their connections have ended: call Sync again from time to time, with the same want if nothing else happens. An
// operation that fails does not stop those on other servers; the VIPs that lack something are named in the state's Partial. A node port
// is one virtual server at each address of the node.
func (e *Engine) Sync(ctx context.Context, want datapath.State, now time.Time) (datapath.State, error) {
	var f failures
	want = e.openTunnels(want, now, &f)
	servers := e.expand(want)
	if err := e.refresh(ctx, want.VIPs, servers, now); err != nil {
		return e.reached(f), err
	}
	held, more := between(e.guarded, e.have.VIPs, want)
	if err := e.guard(ctx, held, now, &f); err != nil {
		return e.reached(f), err // nothing has changed
	}
	if now.Sub(e.tried) >= readEvery { // somebody may have loaded one
		clear(e.missing)
		e.tried = now
	}
	servers = e.expand(want.Without(f.unguarded)) // IPVS serves nobody whom the guard does not look at
	from, to := differing(e.have.Servers, servers)
	e.change(ctx, want.VIPs, from, to, now, &f)
	if more || len(from)+len(to) > 0 {
		after := want
		after.VIPs = e.have.VIPs
		f.errs = append(f.errs, e.guard(ctx, after, now, &f))
		e.releaseMarks(from)
	}
	f.errs = append(f.errs, e.Flows.Forget(ctx, datapath.State{Servers: from}, datapath.State{Servers: to}), e.closeTunnels(want))
	e.share(servers)
	return e.reached(f), f.err()
}

// share puts wanted servers in the place of those of the record that equal them, which then are in memory only once. A record of its own have
// those of which a kernel can tell more: connections that are waited for, the order of a Direct server.
func (e *Engine) share(want []*datapath.VirtualServer) {
	for i := 0; i < len(e.have.Servers) && len(want) > 0; {
		have := e.have.Servers[i]
		if have == want[0] {
			i, want = i+1, want[1:]
			continue
		}
		order := have.Listener.Compare(want[0].Listener)
		if order == 0 && have.Equal(want[0]) && !have.Direct && !retiring(have) {
			e.own()
			e.have.Servers[i] = want[0]
		}
		if order <= 0 {
			i++
		}
		if order >= 0 {
			want = want[1:]
		}
	}
}

// reached is the record, and what has failed, as a state that stays as it is.
func (e *Engine) reached(f failures) datapath.State {
	e.shared = true
	out := e.have
	out.Servers, out.Peers, out.MTU = withTunnelled(out.Servers, e.guarded.Servers), e.guarded.Peers, e.guarded.MTU
	out.Onward = e.guarded.Onward
	out = out.Lacking(slices.Collect(maps.Keys(f.at)), slices.Concat(f.unguarded, f.rejected))
	out.Refused = datapath.JoinRefused(out.Refused, e.replaced())
	return out
}

// own is called before the record's lists are written to.
func (e *Engine) own() {
	if e.shared {
		e.have.VIPs, e.have.Servers, e.shared = slices.Clone(e.have.VIPs), slices.Clone(e.have.Servers), false
	}
}

// guard tells the guard. What it does not take is noted, and is no error.
func (e *Engine) guard(ctx context.Context, s datapath.State, now time.Time, f *failures) error {
	f.unguarded = nil
	if err := f.unguarded.Add(e.Guard.Set(ctx, s, now)); err != nil {
		return err
	}
	e.guarded = s.Without(f.unguarded)
	return nil
}

// between is what the guard holds while the kernel goes from one state to another: it stands before a VIP comes up and until it is
// down, and goes on masquerading until the far endpoints, which could not answer otherwise, are out of service. More tells of either.
func between(before datapath.State, vips []netip.Addr, want datapath.State) (out datapath.State, more bool) {
	out = want
	if !slices.Equal(vips, want.VIPs) {
		out.VIPs = union(vips, want.VIPs)
	}
	cloned := false
	for i, j := 0, 0; i < len(want.Servers) && j < len(before.Servers); {
		w, b := want.Servers[i], before.Servers[j]
		switch order := w.Listener.Compare(b.Listener); {
		case order < 0:
			i++
			continue
		case order > 0:
			j++
			continue
		}
		if b.Masquerade&^w.Masquerade != 0 {
			if !cloned {
				out.Servers, cloned = slices.Clone(want.Servers), true
			}
			both := *w
			both.Masquerade |= b.Masquerade
			out.Servers[i] = &both
		}
		i, j = i+1, j+1
	}
	return out, cloned || len(out.VIPs) > len(want.VIPs)
}

// expand returns the virtual servers that IPVS needs for a state: a node port at every address, a scheduler that the kernel has, none for
// what comes through the tunnel, which the guard takes to its endpoint.
func (e *Engine) expand(want datapath.State) []*datapath.VirtualServer {
	special := func(v *datapath.VirtualServer) bool {
		return v.NodePort() && !v.Inside || v.Tunnelled || e.missing[v.Scheduler] && !v.Direct
	}
	if !slices.ContainsFunc(want.Servers, special) {
		return want.Servers
	}
	var out []*datapath.VirtualServer
	for _, v := range want.Servers {
		if v.Tunnelled {
			continue
		}
		if e.missing[v.Scheduler] && !v.Direct {
			other := *v
			other.Scheduler = datapath.RoundRobin
			v = &other
		}
		if !v.NodePort() || v.Inside { // by its mark, a listener for the inside is one for all addresses
			out = append(out, v)
			continue
		}
		for _, a := range want.NodeAddrs {
			l := v.Listener
			l.Addr = netip.AddrPortFrom(a, l.Addr.Port())
			if _, taken := want.Server(l); a.Is4() == v.Addr.Addr().Is4() && !taken {
				at := *v
				at.Listener = l
				out = append(out, &at)
			}
		}
	}
	slices.SortFunc(out, func(a, b *datapath.VirtualServer) int { return a.Listener.Compare(b.Listener) })
	return out
}

// change carries out what leads from one list of servers to another and to the wanted VIPs, and notes what has failed.
func (e *Engine) change(ctx context.Context, vips []netip.Addr, from, to []*datapath.VirtualServer, now time.Time, f *failures) {
	reach := func(vips []netip.Addr) {
		e.apply(ctx, datapath.Diff(datapath.State{VIPs: e.have.VIPs}, datapath.State{VIPs: vips}, now), f)
	}
	others := !slices.Equal(e.have.VIPs, vips) // they are many, and seldom change
	if others {
		reach(union(e.have.VIPs, vips))
	}
	for len(from) > 0 || len(to) > 0 {
		h, w := head(from, to)
		ops := datapath.Diff(datapath.State{Servers: from[:h]}, datapath.State{Servers: to[:w]}, now)
		e.apply(ctx, ops, f)
		from, to = from[h:], to[w:]
	}
	if others {
		reach(vips)
	}
}

// releaseMarks gives back those of listeners that are gone.
func (e *Engine) releaseMarks(from []*datapath.VirtualServer) {
	for _, v := range from {
		if !v.Inside {
			continue
		}
		if _, wanted := e.guarded.Server(v.Listener); wanted {
			continue
		}
		if _, stays := e.have.Server(v.Listener); !stays {
			e.Marks.release(v.Listener)
		}
	}
}

// Writes returns how many operations IPVS and the routing table were asked for so far.
func (e *Engine) Writes() int { return e.writes }

// Cleanup removes our VIPs, everything that IPVS holds at them, our listeners at the node's addresses, and the guard.
func (e *Engine) Cleanup(ctx context.Context) error {
	if err := e.readAll(ctx, nil, nil, time.Time{}); err != nil {
		return err
	}
	before := e.have.Servers
	e.shared = true
	var f failures
	e.change(ctx, nil, before, nil, time.Time{}, &f)
	e.read, e.guarded, e.tunnels = false, datapath.State{}, tunnels{}
	err := errors.Join(f.err(), e.Guard.Delete(ctx), e.Tunnels.Down(), e.Flows.Forget(ctx, datapath.State{Servers: before}, datapath.State{}))
	e.kernel.close()
	return err
}

func union(sets ...[]netip.Addr) []netip.Addr {
	out := slices.Concat(sets...)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// errorOn says what was tried.
func errorOn(op datapath.Op, err error) error { return fmt.Errorf("%s: %w", op, err) }
