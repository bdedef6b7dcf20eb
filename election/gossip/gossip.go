package gossip

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

// leaveTimeout bounds how long a member that goes away waits until the others have been told.
const leaveTimeout = 2 * time.Second

// Gossip is this node's place among the speakers. Create it with [New]; it takes part while Run runs.
type Gossip struct {
	o    Options
	list *memberlist.Memberlist // set by Run before anything uses it
	ring *memberlist.Keyring

	resend chan struct{} // our record or the members have changed
	rejoin chan struct{} // look for lost members now

	running atomic.Bool
	keysMu  sync.Mutex    // held while the keys are put into use; taken before mu
	inUse   []keyring.Key // as the ring and Options.KeysInUse have them; guarded by keysMu

	mu      sync.Mutex // guards the following
	table   *table
	keys    []keyring.Key // as SetKeys got them
	settled bool
	listed  map[netip.Addr]bool          // what Options.Peers said last
	told    stamp                        // the youngest of our records that has gone out by datagram
	sent    map[lb.NodeName]record       // the youngest of our records that the member has received
	busy    map[lb.NodeName]bool         // a send is under way, or has just been
	tried   map[netip.AddrPort]time.Time // when Rejoin last tried an address
}

// New returns a Gossip that has not joined yet.
func New(o Options) (*Gossip, error) {
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	incarnation := uint64(time.Now().UnixMilli()) // grows from process to process; merge repairs a clock that went back
	ring, err := newRing(o.Keys)
	if err != nil {
		return nil, err
	}
	g := &Gossip{
		o: o, ring: ring, resend: make(chan struct{}, 1), rejoin: make(chan struct{}, 1),
		table: newTable(o.Node, incarnation), sent: map[lb.NodeName]record{}, busy: map[lb.NodeName]bool{}, tried: map[netip.AddrPort]time.Time{},
		listed: map[netip.Addr]bool{},
	}
	g.SetKeys(o.Keys)
	return g, nil
}

// SetSelf replaces what this member says about itself and sends it to the others; m.Node is ignored. It does not block, and
// keeps m's slices: do not write to them afterwards. It may be called from any goroutine, before Run as well.
func (g *Gossip) SetSelf(m lb.Member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.table.setSelf(m) {
		g.wakeSender()
	}
}

// Members returns the living members, this one included, sorted by node; callers must not write to it. Before this member
// has found its peers, or has waited for them in vain, there are none: who knows nobody must not conclude that it is alone.
func (g *Gossip) Members() []lb.Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.settled {
		return nil
	}
	return g.table.members(g.o.Heard)
}

// Known returns the addresses of the living members, and of those that fell silent without goodbye within the last 24 h: a
// heartbeat from one of these means that a partition has healed, see Rejoin. This node is not among them.
func (g *Gossip) Known() map[lb.NodeName]netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.table.known(time.Now())
}

// Rejoin has this member at once exchange states with two living members, so that [Gossip.UpToDate] gets its answer, and with all
// that fell silent without goodbye: those it tries five times in half a second. It does not block, and may be called often: an
// address is tried at most every 100 ms.
func (g *Gossip) Rejoin() {
	select {
	case g.rejoin <- struct{}{}:
	default:
	}
}

// UpToDate reports whether this member has exchanged states with another one since then, and every node that others have
// spoken of as living since is a member here too. A member that was cut off or asleep takes the others for dead, or itself
// for the owner of what others have long taken over. News that was sent before since and is only read now does not count:
// the exchange must have begun no earlier than since, so a process that was asleep passes the time when it woke.
func (g *Gossip) UpToDate(since time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.table.upToDate(since)
}

// Run joins and takes part until ctx is done; then it says goodbye and returns nil. An error means that the address could not
// be bound or the key was refused.
func (g *Gossip) Run(ctx context.Context) error {
	lines := &quiet{to: g.o.MemberlistLog}
	transport := g.o.Transport
	if transport == nil {
		guard, err := newGuard(g.o.Bind, lines, g.knows)
		if err != nil {
			return fmt.Errorf("joining gossip: %w", err)
		}
		defer guard.close()
		transport = guard
	}
	config := g.o.config(g.ring, transport, lines)
	config.Delegate, config.Events = (*delegate)(g), (*delegate)(g)
	g.running.Store(true)
	g.useKeys()
	list, err := memberlist.Create(config)
	if err != nil {
		return fmt.Errorf("joining gossip on %s: %w", g.o.Bind, err)
	}
	g.list = list
	if !slices.ContainsFunc(list.Members(), func(n *memberlist.Node) bool { return n.Name == config.Name }) {
		// What others said of our predecessor came before memberlist had told itself of this member, whom it takes for dead then, and would
		// soon forget. That is mended before the wait for others to hear of it, which may time out.
		_ = list.UpdateNode(leaveTimeout)
	}
	var group errgroup.Group // of functions that do not fail
	group.Go(func() error { g.joinLoop(ctx); return nil })
	group.Go(func() error { g.exchangeLoop(ctx, &group); return nil })
	group.Go(func() error { g.sendLoop(ctx, &group); return nil })
	<-ctx.Done()
	g.sayGoodbye()
	if err := list.Leave(leaveTimeout); err != nil {
		g.o.Log.Warn("gossip left without goodbye", "err", err)
	}
	_ = group.Wait()
	if err := list.Shutdown(); err != nil {
		return fmt.Errorf("closing gossip on %s: %w", g.o.Bind, err)
	}
	return nil
}

// knows reports whether a speaker is, was or should be at addr.
func (g *Gossip) knows(addr netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listed[addr] {
		return true
	}
	for _, a := range g.table.known(time.Now()) {
		if a == addr {
			return true
		}
	}
	return false
}

// delegate is Gossip as memberlist sees it; a type of its own keeps these methods out of Gossip's.
type delegate Gossip

var (
	_ memberlist.Delegate      = (*delegate)(nil)
	_ memberlist.EventDelegate = (*delegate)(nil)
)

// NodeMeta implements memberlist.Delegate. Records do not fit in there.
func (d *delegate) NodeMeta(int) []byte { return nil }

// GetBroadcasts implements memberlist.Delegate. Records are sent to each member instead.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// NotifyMsg implements memberlist.Delegate.
func (d *delegate) NotifyMsg(b []byte) { (*Gossip)(d).receive(b) }

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return encode(d.table.all()...)
}

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState(b []byte, _ bool) { (*Gossip)(d).receive(b) }

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) { (*Gossip)(d).joined(n) }

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(n *memberlist.Node) { (*Gossip)(d).left(n) }

// NotifyUpdate implements memberlist.EventDelegate; a node's address may have changed.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { (*Gossip)(d).joined(n) }

func (g *Gossip) joined(n *memberlist.Node) {
	addr, ok := netip.AddrFromSlice(n.Addr)
	if n.Name == string(g.o.Node) || !ok {
		return
	}
	g.mu.Lock()
	g.table.join(lb.NodeName(n.Name), netip.AddrPortFrom(addr.Unmap(), n.Port))
	delete(g.sent, lb.NodeName(n.Name)) // it may be a new process that knows nothing
	g.wakeSender()
	g.mu.Unlock()
	g.useKeys()
	g.o.Log.Info("speaker joined", "node", n.Name, "addr", addr)
	g.o.Changed()
}

func (g *Gossip) left(n *memberlist.Node) {
	if n.Name == string(g.o.Node) {
		return
	}
	g.mu.Lock()
	g.table.leave(lb.NodeName(n.Name), time.Now())
	delete(g.sent, lb.NodeName(n.Name))
	g.mu.Unlock()
	g.useKeys()
	g.o.Log.Info("speaker left", "node", n.Name)
	g.o.Changed()
}

// receive merges records that another member has sent.
func (g *Gossip) receive(b []byte) {
	if len(b) == 0 {
		return
	}
	records, err := decode(b)
	if err != nil {
		g.o.Log.Warn("gossip message dropped", "err", err)
		return
	}
	news := false
	g.mu.Lock()
	for _, r := range records {
		if g.table.merge(r, time.Now()) {
			news = true
			if r.Node == g.o.Node {
				g.wakeSender()
			}
		}
	}
	g.mu.Unlock()
	g.useKeys()
	if news {
		g.o.Changed()
	}
}
