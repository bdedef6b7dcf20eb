package ipvs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// node is a fake of everything an engine talks to: IPVS, local routes, the guard and conntrack. It refuses operations that make no
// sense in its state, and notes if a VIP was ever up without its guard.
type node struct {
	ipvs      []*datapath.VirtualServer // what IPVS itself knows, ours and foreign
	routes    []netip.Addr
	addresses []netip.Addr // that the node has anyway
	guard     datapath.State
	writes    int
	refuse    func() error
	lacks     string // scheduler
	lacked    int    // how often it was asked for
	unguarded []netip.Addr
	tunnels   []netip.Addr // endpoints that can be reached through them
	spares    bool         // connections whose destination is away
	sets      int          // of the guard
	looks     []int        // calls of Forget: how many servers each was told of
}

func (n *node) engine() *Engine {
	marks, err := NewMarks(0x1000, 0x800)
	if err != nil {
		panic(err)
	}
	return newEngine(Options{Guard: guard{n}, Local: local{n}, Tunnels: n, Flows: n, Marks: marks}, n)
}

func (n *node) maybe() error {
	if n.refuse != nil {
		return n.refuse()
	}
	return nil
}

func (n *node) close() {}

func (n *node) Up(endpoints, _ []netip.Addr) (datapath.MTU, error) {
	n.tunnels = endpoints
	return datapath.MTU{IPv4: 1500}, n.maybe()
}

func (n *node) Down() error {
	n.tunnels = nil
	return n.maybe()
}

func (n *node) Spare(connections bool) error {
	n.spares = connections
	return nil
}

func (n *node) Forget(_ context.Context, have, want datapath.State) error {
	n.looks = append(n.looks, len(have.Servers)+len(want.Servers))
	return nil
}

func (n *node) services(_ context.Context, ours func(datapath.Listener) bool) ([]*datapath.VirtualServer, error) {
	var out []*datapath.VirtualServer
	for _, v := range n.ipvs {
		if ours(v.Listener) {
			bare := *v
			bare.Destinations = nil
			out = append(out, &bare)
		}
	}
	return out, n.maybe()
}

func (n *node) service(_ context.Context, v *datapath.VirtualServer) (*datapath.VirtualServer, bool, error) {
	found, ok := datapath.State{Servers: n.ipvs}.Server(v.Listener)
	return &found, ok, n.maybe()
}

func (n *node) destinations(_ context.Context, v *datapath.VirtualServer) ([]datapath.Destination, error) {
	s := datapath.State{Servers: n.ipvs}
	found, ok := s.Server(v.Listener)
	if !ok {
		return nil, errors.New("no such service")
	}
	return slices.Clone(found.Destinations), n.maybe()
}

// apply does what the kernel does, which knows nothing of verdicts, ranges and deadlines.
func (n *node) apply(_ context.Context, op datapath.Op) error {
	if err := n.maybe(); err != nil {
		return err
	}
	if n.lacks != "" && op.Server.Scheduler == n.lacks && (op.Verb == datapath.AddServer || op.Verb == datapath.EditServer) {
		n.lacked++
		return unix.ENOENT
	}
	n.writes++
	if n.spares != (op.Verb == datapath.MoveDestination) {
		return fmt.Errorf("%s: connections without a destination are spared: %v", op, n.spares)
	}
	op.Server = datapath.VirtualServer{Listener: op.Server.Listener, Scheduler: op.Server.Scheduler, Affinity: op.Server.Affinity}
	op.Destination.Until = time.Time{}
	s := datapath.State{VIPs: []netip.Addr{op.Server.Addr.Addr()}, Servers: n.ipvs}
	err := s.Apply(op)
	n.ipvs = s.Servers
	return err
}

type local struct{ *node }

func (l local) Read() ([]netip.Addr, error) { return slices.Clone(l.routes), l.maybe() }

func (l local) Has(vip netip.Addr) (bool, error) {
	return slices.Contains(l.routes, vip) || slices.Contains(l.addresses, vip), l.maybe()
}

func (l local) Up(vip netip.Addr) (bool, error) {
	if err := l.maybe(); err != nil || slices.Contains(l.addresses, vip) {
		return false, err
	}
	if !slices.Contains(l.guard.VIPs, vip) {
		l.unguarded = append(l.unguarded, vip)
	}
	if slices.Contains(l.routes, vip) {
		return false, nil
	}
	l.writes++
	l.routes = union(l.routes, []netip.Addr{vip})
	return true, nil
}

func (l local) Down(vip netip.Addr) error {
	if err := l.maybe(); err != nil {
		return err
	}
	l.writes++
	l.routes = slices.DeleteFunc(l.routes, func(a netip.Addr) bool { return a == vip })
	return nil
}

type guard struct{ *node }

func (g guard) Owned(context.Context) (vips []netip.Addr, atNode []datapath.Listener, err error) {
	for _, v := range g.guard.Servers {
		if v.Inside || slices.Contains(g.guard.VIPs, v.Addr.Addr()) {
			continue
		}
		if !v.NodePort() {
			atNode = append(atNode, v.Listener)
			continue
		}
		for _, a := range g.guard.NodeAddrs {
			atNode = append(atNode, datapath.Listener{Addr: netip.AddrPortFrom(a, v.Addr.Port()), Protocol: v.Protocol})
		}
	}
	slices.SortFunc(atNode, datapath.Listener.Compare)
	return g.guard.VIPs, atNode, nil
}

func (g guard) Set(_ context.Context, s datapath.State, _ time.Time) error {
	if err := g.maybe(); err != nil {
		return err
	}
	g.sets++
	g.node.guard = datapath.State{VIPs: slices.Clone(s.VIPs), Servers: s.Servers, NodeAddrs: s.NodeAddrs, Peers: s.Peers, MTU: s.MTU}
	for _, a := range g.routes {
		if !slices.Contains(s.VIPs, a) {
			g.unguarded = append(g.unguarded, a)
		}
	}
	return nil
}

func (g guard) HandedOn() (uint64, error) { return 0, nil }

func (g guard) Delete(context.Context) error {
	g.node.guard = datapath.State{}
	return nil
}

// dump prints IPVS and routes.
func (n *node) dump() string {
	return datapath.State{VIPs: n.routes, Servers: n.ipvs}.String() + fmt.Sprint(n.tunnels)
}

func (n *node) setConns(f func() int) {
	for i := range n.ipvs {
		for j := range n.ipvs[i].Destinations {
			n.ipvs[i].Destinations[j].Conns = f()
		}
	}
}

// state draws servers at three VIPs, at an address of the node, and node ports, some with a server for the inside.
func state(r *rand.Rand) datapath.State {
	node := netip.MustParseAddr("192.0.2.11")
	s := datapath.State{NodeAddrs: []netip.Addr{node, netip.MustParseAddr("192.0.2.12")}[:r.IntN(3)]}
	for _, text := range []string{"0.0.0.0", "192.0.2.11", "192.0.2.200", "192.0.2.201", "192.0.2.202"} {
		addr := netip.MustParseAddr(text)
		for n := range 4 {
			port, inside := n/2, n%2 == 1
			if r.IntN(2) == 0 {
				continue
			}
			v := datapath.VirtualServer{
				Listener:  datapath.Listener{Addr: netip.AddrPortFrom(addr, uint16(80+port)), Protocol: []lb.Protocol{lb.TCP, lb.UDP}[port], Inside: inside},
				Scheduler: datapath.RoundRobin, Affinity: time.Duration(r.IntN(2)) * time.Hour, Masquerade: datapath.Everybody * datapath.Clients(r.IntN(2)),
				Verdict: []datapath.Verdict{datapath.Forward, datapath.Reject, datapath.Drop}[r.IntN(3)],
			}
			for e := range 4 {
				if w := r.IntN(3); w > 0 {
					v.Destinations = append(v.Destinations, datapath.Destination{
						Addr: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", e)), Weight: w - 1, Method: datapath.NAT})
				}
			}
			s.Servers = append(s.Servers, &v)
			if !v.NodePort() && addr != node {
				s.VIPs = union(s.VIPs, []netip.Addr{addr})
			}
			if inside && !v.NodePort() && r.IntN(3) == 0 {
				s.Peers = []netip.Addr{netip.MustParseAddr("192.0.2.12")}
				tunnelled := v
				tunnelled.Inside, tunnelled.Tunnelled = false, true
				s.Servers = append(s.Servers, &tunnelled)
			}
		}
	}
	return s
}

// foreign is a virtual server that belongs to somebody else.
func foreign() *datapath.VirtualServer {
	return &datapath.VirtualServer{Listener: datapath.Listener{Addr: netip.MustParseAddrPort("198.51.100.7:80"), Protocol: lb.TCP}, Scheduler: "wrr",
		Destinations: []datapath.Destination{{Addr: netip.MustParseAddrPort("10.9.9.9:80"), Weight: 3, Method: datapath.NAT}}}
}

// TestShuffle replays random states through operations that fail now and then, restarts, and other people's flushes. When
// things have calmed down and connections have ended, the kernel holds what a fresh one would, and the foreign server.
func TestShuffle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	n := &node{ipvs: []*datapath.VirtualServer{foreign()}, addresses: []netip.Addr{netip.MustParseAddr("192.0.2.202")}}
	e, now, ctx := n.engine(), t0, context.Background()
	for round := range 1500 {
		want := state(r)
		n.refuse = func() error {
			if r.IntN(8) == 0 {
				return errors.New("no memory")
			}
			return nil
		}
		switch r.IntN(20) {
		case 0:
			e = n.engine()
		case 1:
			n.ipvs = []*datapath.VirtualServer{foreign()} // somebody flushed, and set up his own again
		case 2:
			n.routes = nil
		}
		n.setConns(func() int { return r.IntN(2) })
		now = now.Add(time.Second)
		reached, err := e.Sync(ctx, want, now)
		said := reached.String()
		if err == nil {
			for _, a := range want.VIPs {
				if !reached.Programmed()[a] {
					t.Fatalf("round %d: no error, but %s is not programmed:\n%s", round, a, reached)
				}
			}
		}
		n.refuse = nil
		for range 3 {
			n.setConns(func() int { return 0 })
			now = now.Add(time.Second)
			if _, err := e.Sync(ctx, want, now); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		fresh := &node{ipvs: []*datapath.VirtualServer{foreign()}, addresses: n.addresses}
		if _, err := fresh.engine().Sync(ctx, want, now); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(fresh.dump(), n.dump()); d != "" {
			t.Fatalf("round %d (-fresh +replayed):\n%s\nguard:\n%s", round, d, n.guard)
		}
		if !n.guard.Equal(fresh.guard) {
			t.Fatalf("round %d: guard\n%s\nwant\n%s", round, n.guard, fresh.guard)
		}
		before := n.writes
		now = now.Add(readEvery)
		if _, err := e.Sync(ctx, want, now); err != nil || n.writes != before {
			t.Fatalf("round %d: %d writes with nothing to do, %v", round, n.writes-before, err)
		}
		if len(n.unguarded) > 0 {
			t.Fatalf("round %d: %v was up without its guard", round, n.unguarded)
		}
		want = state(r)
		if _, err := e.Sync(ctx, want, now); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(said, reached.String()); d != "" {
			t.Fatalf("round %d: a state that was returned has changed (-then +now):\n%s", round, d)
		}
	}
	if err := e.Cleanup(ctx); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff((&node{ipvs: []*datapath.VirtualServer{foreign()}}).dump(), n.dump()); d != "" {
		t.Errorf("after the cleanup (-want +got):\n%s", d)
	}
}

// TestS77AMissingSchedulerIsReplaced, which the Service is told, until somebody has loaded it.
func TestS77AMissingSchedulerIsReplaced(t *testing.T) {
	n := &node{lacks: "lc"}
	e, ctx := n.engine(), context.Background()
	want := datapath.State{VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.200")}}
	for _, port := range []uint16{80, 81} {
		want.Servers = append(want.Servers, &datapath.VirtualServer{
			Listener: datapath.Listener{Addr: netip.AddrPortFrom(want.VIPs[0], port), Protocol: lb.TCP},
			Service:  lb.ServiceKey{Namespace: "shop", Name: "web"}, Scheduler: "lc", Verdict: datapath.Forward,
			Destinations: []datapath.Destination{{Addr: netip.MustParseAddrPort("10.0.1.1:8080"), Weight: 1, Method: datapath.NAT}}})
	}
	const says = "[shop/web: SchedulerMissing: this node's kernel has no scheduler lc, so that rr is used; load its module ip_vs_lc, or delete annotation fairlead.dev/scheduler]"
	sync := func(after time.Duration, scheduler, refused string) {
		t.Helper()
		reached, err := e.Sync(ctx, want, t0.Add(after))
		if err != nil || n.ipvs[0].Scheduler != scheduler || n.ipvs[1].Scheduler != scheduler || fmt.Sprint(reached.Refused) != refused {
			t.Errorf("after %s: %v, refused %s\n%s", after, err, reached.Refused, n.dump())
		}
	}
	sync(0, "rr", says)
	before := n.writes
	sync(time.Second, "rr", says)
	sync(readEvery, "rr", says)
	if n.writes != before || n.lacked != 2 { // once when it was new, once after a time: the kernel looks for a module each time
		t.Errorf("%d writes with nothing to do; asked for the scheduler %d times, want 2", n.writes-before, n.lacked)
	}
	n.lacks = ""
	sync(readEvery+time.Second, "rr", says)
	sync(2*readEvery, "lc", "[]")
}

// TestTheRecordIsWhatIsWanted: what the kernel holds as it is wanted is in memory once, also after a restart; what waits for connections is not.
func TestTheRecordIsWhatIsWanted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	n := &node{}
	e, ctx, shared := n.engine(), context.Background(), 0
	for round := range 200 {
		want := state(r)
		if round%2 == 1 {
			e = n.engine()
		}
		for range 3 {
			n.setConns(func() int { return 1 })
			if _, err := e.Sync(ctx, want, t0); err != nil {
				t.Fatal(err)
			}
		}
		for _, w := range want.Servers {
			if w.NodePort() || w.Tunnelled { // held as others
				continue
			}
			i, ok := slices.BinarySearchFunc(e.have.Servers, w.Listener, byListener)
			if !ok {
				t.Fatalf("round %d: %s is missing", round, w.Listener)
			}
			switch have := e.have.Servers[i]; {
			case have == w:
				shared++
			case have.Equal(w) && !retiring(have):
				t.Fatalf("round %d: %s is in memory twice", round, w.Listener)
			}
		}
	}
	if shared < 100 {
		t.Errorf("only %d were shared", shared)
	}
}

// TestFlowsAreForgottenAtEverySync, if only for what an earlier call has left undone.
func TestFlowsAreForgottenAtEverySync(t *testing.T) {
	n := &node{}
	e, want := n.engine(), datapath.State{VIPs: []netip.Addr{foreign().Addr.Addr()}, Servers: []*datapath.VirtualServer{foreign()}}
	for range 3 {
		if _, err := e.Sync(t.Context(), want, t0); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(n.looks, []int{1, 0, 0}) {
		t.Errorf("flows were forgotten of %v servers", n.looks)
	}
}

// TestMasqueradeEnds: where the guard could not be told the last word, it is told later, though nothing else is left to do.
func TestMasqueradeEnds(t *testing.T) {
	n := &node{}
	e := n.engine()
	before, after := foreign(), foreign()
	before.Masquerade = datapath.Everybody
	sync := func(v *datapath.VirtualServer) error {
		_, err := e.Sync(t.Context(), datapath.State{VIPs: []netip.Addr{v.Addr.Addr()}, Servers: []*datapath.VirtualServer{v}}, t0)
		return err
	}
	if err := sync(before); err != nil {
		t.Fatal(err)
	}
	e.Guard = tired{guard{n}, n.sets + 1}
	if err := sync(after); err == nil || n.guard.Servers[0].Masquerade != datapath.Everybody {
		t.Fatalf("%v; the guard has\n%s", err, n.guard)
	}
	e.Guard = guard{n}
	if err := sync(after); err != nil || n.guard.Servers[0].Masquerade != datapath.Nobody {
		t.Errorf("%v; the guard has\n%s", err, n.guard)
	}
}

// tired is a guard that can be told no more than so many times.
type tired struct {
	guard
	times int
}

func (g tired) Set(ctx context.Context, s datapath.State, now time.Time) error {
	if g.sets >= g.times {
		return errors.New("no memory")
	}
	return g.guard.Set(ctx, s, now)
}

// TestCleanupOfMany has more servers than are changed at a time.
func TestCleanupOfMany(t *testing.T) {
	var want datapath.State
	for i := range 3*chunk + 1 {
		addr := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		want.VIPs = append(want.VIPs, addr)
		want.Servers = append(want.Servers, &datapath.VirtualServer{Listener: datapath.Listener{Addr: netip.AddrPortFrom(addr, 80), Protocol: lb.TCP}, Scheduler: datapath.RoundRobin,
			Destinations: []datapath.Destination{{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 1, Method: datapath.NAT}}})
	}
	n := &node{}
	if _, err := n.engine().Sync(t.Context(), want, t0); err != nil || len(n.ipvs) != len(want.Servers) {
		t.Fatalf("%d servers, want %d: %v", len(n.ipvs), len(want.Servers), err)
	}
	if err := n.engine().Cleanup(t.Context()); err != nil || len(n.ipvs)+len(n.routes) > 0 {
		t.Errorf("%d servers and %d routes are left: %v", len(n.ipvs), len(n.routes), err)
	}
}

func TestFailuresAreNamedByVIP(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	want := state(r)
	for len(want.VIPs) < 2 {
		want = state(r)
	}
	n := &node{}
	e := n.engine()
	broken := want.VIPs[0]
	e.kernel = failing{n, broken}
	reached, err := e.Sync(context.Background(), want, t0)
	if err == nil {
		t.Fatal("no error")
	}
	expect := map[netip.Addr]bool{}
	for _, a := range want.VIPs {
		if a != broken {
			expect[a] = true
		}
	}
	if d := cmp.Diff(expect, reached.Programmed(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("programmed (-want +got):\n%s", d)
	}
}

// failing is a kernel that accepts nothing at one VIP.
type failing struct {
	*node
	vip netip.Addr
}

func (f failing) apply(ctx context.Context, op datapath.Op) error {
	if op.Server.Addr.Addr() == f.vip {
		return errors.New("no memory")
	}
	return f.node.apply(ctx, op)
}

// TestMarksTellListenersApart: every listener has its own, none means masquerade, and one that is given back is free again.
func TestMarksTellListenersApart(t *testing.T) {
	m, err := NewMarks(0x1000, 0x800)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]bool{}
	listener := func(i int) datapath.Listener {
		return datapath.Listener{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 80), Protocol: lb.TCP, Inside: true}
	}
	for i := range 20000 {
		mark := m.Of(listener(i))
		if seen[mark] || mark&0x1800 != 0x800 || mark&markMask != ourMarks {
			t.Fatalf("mark %#x", mark)
		}
		seen[mark] = true
		if m.Of(listener(i)) != mark || m.listener(mark, netip.IPv4Unspecified()) != listener(i) {
			t.Fatalf("mark %#x changed its listener", mark)
		}
	}
	was := m.Of(listener(7))
	m.release(listener(7))
	if m.Of(listener(7)) != was {
		t.Error("a mark that was given back is not free")
	}
	if _, err := NewMarks(0x80000000, 0x40000000); err == nil {
		t.Error("a bit that distinguishes listeners was accepted")
	}
}

// direct is a state with both tiers, of this node's endpoint and another's.
func direct() datapath.State {
	v := foreign()
	v.Direct, v.Scheduler, v.Verdict = true, datapath.Maglev, datapath.Forward
	v.Addr = netip.MustParseAddrPort("192.0.2.200:80")
	v.Destinations = append([]datapath.Destination{{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Weight: 1, Method: datapath.Tunnel}}, v.Destinations...)
	tunnelled, other := *v, *v
	tunnelled.Tunnelled, tunnelled.Direct = true, false
	tunnelled.Destinations = v.Destinations[1:]
	other.Addr, other.Direct, other.Scheduler = netip.MustParseAddrPort("192.0.2.201:80"), false, datapath.Maglev
	other.Destinations = v.Destinations[1:]
	return datapath.State{VIPs: []netip.Addr{v.Addr.Addr(), other.Addr.Addr()}, Servers: []*datapath.VirtualServer{v, &tunnelled, &other},
		Peers: []netip.Addr{netip.MustParseAddr("192.0.2.12")}}
}

// TestDestinationsAreInOrder: those of a Direct server, however they came, and whatever an earlier process has left.
func TestDestinationsAreInOrder(t *testing.T) {
	n, ctx := &node{}, context.Background()
	e, now := n.engine(), t0
	want := direct()
	all := *want.Servers[0]
	all.Destinations = nil
	for i := range 6 {
		all.Destinations = append(all.Destinations, datapath.Destination{Addr: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", i+1)), Weight: 1, Method: datapath.Tunnel})
	}
	sync := func(want *datapath.VirtualServer) (writes int) {
		t.Helper()
		before := n.writes
		now = now.Add(time.Second)
		if _, err := e.Sync(ctx, datapath.State{VIPs: []netip.Addr{want.Addr.Addr()}, Servers: []*datapath.VirtualServer{want}, Peers: []netip.Addr{netip.MustParseAddr("192.0.2.12")}}, now); err != nil {
			t.Fatal(err)
		}
		var order []datapath.Destination
		if at := slices.IndexFunc(n.ipvs, func(v *datapath.VirtualServer) bool { return v.Listener == want.Listener }); at >= 0 {
			order = slices.SortedFunc(slices.Values(n.ipvs[at].Destinations), func(a, b datapath.Destination) int { return a.Added - b.Added })
		}
		if len(order) != len(want.Destinations) || !slices.EqualFunc(order, want.Destinations, func(a, b datapath.Destination) bool { return a.Addr == b.Addr }) {
			t.Fatalf("want %v, the kernel has got\n%v", want.Destinations, order)
		}
		return n.writes - before
	}
	some := all
	some.Destinations = []datapath.Destination{all.Destinations[1], all.Destinations[3], all.Destinations[5]}
	sync(&some)
	if writes := sync(&all); writes != 6 { // three come, and three are moved behind them
		t.Errorf("%d writes", writes)
	}
	at := slices.IndexFunc(n.ipvs, func(v *datapath.VirtualServer) bool { return v.Listener == all.Listener })
	other := *n.ipvs[at]
	other.Destinations = slices.Clone(other.Destinations)
	other.Destinations[2].Added = 9
	n.ipvs[at] = &other
	e = n.engine()
	if writes := sync(&all); writes != 3 {
		t.Errorf("%d writes to mend what an earlier process has left, want 3", writes)
	}
	if writes := sync(&all); writes != 0 {
		t.Errorf("%d writes with nothing to do", writes)
	}
}

// TestAnEndpointThatIPVSDoesNotGetIsNoWork: one without weight that it does not have; and it is noticed when the endpoint gets some.
func TestAnEndpointThatIPVSDoesNotGetIsNoWork(t *testing.T) {
	ctx := context.Background()
	server := func(edit func(*datapath.VirtualServer), second ...int) datapath.State {
		v := foreign()
		v.Addr = netip.MustParseAddrPort("192.0.2.200:53")
		edit(v)
		method := datapath.NAT
		if v.Direct {
			method, v.Scheduler = datapath.Tunnel, datapath.Maglev
		}
		v.Destinations = []datapath.Destination{{Addr: netip.MustParseAddrPort("10.0.0.1:53"), Weight: 1, Method: method}}
		for _, weight := range second {
			v.Destinations = append(v.Destinations, datapath.Destination{Addr: netip.MustParseAddrPort("10.0.0.2:53"), Weight: weight, Method: method})
		}
		return datapath.State{VIPs: []netip.Addr{v.Addr.Addr()}, Servers: []*datapath.VirtualServer{v}}
	}
	udp := func(v *datapath.VirtualServer) { v.Protocol = lb.UDP }
	for name, tc := range map[string]struct {
		edit  func(*datapath.VirtualServer)
		later bool // the endpoint comes when the server is there
	}{
		"UDP":                 {udp, false},
		"UDP, later":          {udp, true},
		"TCP":                 {func(*datapath.VirtualServer) {}, false},
		"direct, later":       {func(v *datapath.VirtualServer) { v.Direct = true }, true},
		"direct over UDP":     {func(v *datapath.VirtualServer) { v.Direct, v.Protocol = true, lb.UDP }, false},
		"no endpoint has any": {func(v *datapath.VirtualServer) { v.Protocol, v.Verdict = lb.UDP, datapath.Reject }, false},
	} {
		n := &node{}
		e, now := n.engine(), t0
		sync := func(want datapath.State) {
			t.Helper()
			now = now.Add(time.Second)
			if _, err := e.Sync(ctx, want, now); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		want := server(tc.edit, 0)
		if name == "no endpoint has any" {
			want.Servers[0].Destinations[0].Weight = 0
		}
		if tc.later {
			sync(server(tc.edit))
		}
		sync(want)
		const rounds = 5
		sets, writes := n.sets, n.writes
		n.looks = nil
		for range rounds {
			sync(want)
		}
		if n.sets != sets+rounds || n.writes != writes || !slices.Equal(n.looks, make([]int, rounds)) {
			t.Errorf("%s: %d times nothing to do: the guard was told %d times, %d writes, flows were forgotten of %v servers", name, rounds, n.sets-sets, n.writes-writes, n.looks)
		}
		n.looks = nil
		sync(server(tc.edit, 1))
		if dests := n.ipvs[0].Destinations; len(dests) != 2 || dests[1].Weight != 1 || !slices.Equal(n.looks, []int{2}) {
			t.Errorf("%s: the endpoint has got weight, IPVS has %v; flows were forgotten of %v servers", name, dests, n.looks)
		}
		n.looks = nil
		sync(want)
		if !slices.Equal(n.looks, []int{2}) {
			t.Errorf("%s: the endpoint has lost its weight, flows were forgotten of %v servers", name, n.looks)
		}
	}
}

// TestTunnelsAreOpenWhileNeeded: they are there before anything comes through them, and gone with the last server that needs them.
func TestTunnelsAreOpenWhileNeeded(t *testing.T) {
	n, ctx := &node{}, context.Background()
	e := n.engine()
	reached, err := e.Sync(ctx, direct(), t0)
	if err != nil || !reached.Equal(direct()) || reached.MTU.IPv4 != 1500 || n.guard.MTU.IPv4 != 1500 {
		t.Errorf("reached, %v\n%s\nwant\n%s", err, reached, direct())
	}
	if d := cmp.Diff("[10.9.9.9]", fmt.Sprint(n.tunnels)); d != "" {
		t.Error(d)
	}
	for _, v := range n.ipvs {
		if v.Tunnelled {
			t.Errorf("IPVS has %s", v)
		}
	}
	e = n.engine() // a new process, which finds that nobody asks any more
	if _, err := e.Sync(ctx, datapath.State{}, t0); err != nil || n.tunnels != nil {
		t.Errorf("tunnels for %v are left: %v", n.tunnels, err)
	}
}

// TestReachedTellsTheWayOnward that the guard has, which is the one before if it did not take the new one.
func TestReachedTellsTheWayOnward(t *testing.T) {
	n, ctx := &node{}, context.Background()
	e := n.engine()
	hop := func(addr string) datapath.Onward {
		return datapath.Onward{Known: true, IPv4: datapath.Way{First: datapath.Hop{Addr: netip.MustParseAddr(addr), Link: 2}}}
	}
	want := direct()
	want.Onward = hop("198.18.0.2")
	if reached, err := e.Sync(ctx, want, t0); err != nil || reached.Onward != want.Onward {
		t.Errorf("reached %q, %v; want %q", reached.Onward, err, want.Onward)
	}
	other := want
	other.Onward = hop("198.18.0.3")
	n.refuse = func() error { return errors.New("no memory") }
	if reached, err := e.Sync(ctx, other, t0); err == nil || reached.Onward != want.Onward {
		t.Errorf("after a failure reached %q, %v; want still %q", reached.Onward, err, want.Onward)
	}
}

// TestWithoutWhatTunnelsNeed: what needs them is refused as a whole, and said so; everything else is served.
func TestWithoutWhatTunnelsNeed(t *testing.T) {
	for name, tc := range map[string]struct {
		lacks  func(e *Engine, n *node)
		direct lb.Reason
		other  lb.Reason // of the Service that asks for the scheduler, and can do without
	}{
		"tunnels":   {func(e *Engine, n *node) { e.Tunnels = noTunnels{} }, lb.KernelRefuses, ""},
		"scheduler": {func(e *Engine, n *node) { e.kernel = noMaglev{n} }, lb.KernelRefuses, lb.SchedulerMissing},
	} {
		n := &node{}
		e := n.engine()
		tc.lacks(e, n)
		want := direct()
		other := *want.Servers[2]
		other.Service.Name, want.Servers[2] = "other", &other
		reached, err := e.Sync(context.Background(), want, t0)
		said := map[string]lb.Reason{}
		for _, r := range reached.Refused {
			said[r.Service.Name] = r.Reason
		}
		if err == nil || said[""] != tc.direct || said["other"] != tc.other {
			t.Errorf("%s: %v, refused %v", name, err, reached.Refused)
		}
		if _, has := reached.Server(direct().Servers[0].Listener); has || reached.Has(direct().VIPs[0]) {
			t.Errorf("%s: half of it is served:\n%s", name, reached)
		}
		if other, has := reached.Server(direct().Servers[2].Listener); !has || len(other.Destinations) != 1 || !reached.Has(direct().VIPs[1]) {
			t.Errorf("%s: the other server is not served:\n%s", name, reached)
		}
	}
}

type noTunnels struct{}

func (noTunnels) Up(_, _ []netip.Addr) (datapath.MTU, error) {
	return datapath.MTU{}, errors.New("no module")
}
func (noTunnels) Down() error      { return nil }
func (noTunnels) Spare(bool) error { return nil }

// noMaglev is a kernel without module ip_vs_mh.
type noMaglev struct{ *node }

func (n noMaglev) apply(ctx context.Context, op datapath.Op) error {
	if op.Verb == datapath.AddServer && op.Server.Scheduler == datapath.Maglev {
		return unix.ENOENT
	}
	return n.node.apply(ctx, op)
}
