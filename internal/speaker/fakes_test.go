package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

var (
	vip  = netip.MustParseAddr("192.0.2.200")
	vip2 = netip.MustParseAddr("192.0.2.201")
	web  = lb.ServiceKey{Namespace: "default", Name: "web"}
	dns  = lb.ServiceKey{Namespace: "default", Name: "dns"}
)

// world is a cluster of speakers, nodes n1 to nN, on fakes that remember what happened.
type world struct {
	t     *testing.T
	mu    sync.Mutex
	log   []string // what happened, in order
	facts kube.Facts
	down  bool // the API server does not answer and no cache has data
	nodes map[lb.NodeName]*node
}

// node is one speaker with its fakes; it implements their interfaces.
type node struct {
	*Speaker
	world *world
	name  lb.NodeName
	stop  context.CancelFunc
	done  chan error

	// All guarded by world.mu.
	member  lb.Member
	alive   bool
	links   []lb.Link
	answers map[netip.Addr]announce.Target
	noSock  bool
	taken   map[netip.Addr]lb.MAC // addresses that strangers answer for
	kernel  datapath.State
	refuse  map[netip.Addr]bool // the kernel refuses these VIPs
	reject  lb.ServiceKey       // the kernel does not take the servers of this Service
	slow    time.Duration       // how long the engine takes
	drowsy  time.Duration       // how long the announcer takes
	sets    int                 // how often the announcer was asked for something
	syncs   int
	rejoins int
	heard   time.Time
	events  []string
	silent  bool // it no longer sends heartbeats; gossip has not noticed
	asleep  bool // it is not Fresh
	sleeps  uint64
	watched map[lb.NodeName]netip.Addr
}

func (w *world) note(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

// took returns the log since the last call.
func (w *world) took() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.log
	w.log = nil
	return out
}

// answering names the nodes that answer for addr now.
func (w *world) answering(addr netip.Addr) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(w.nodes)) {
		if _, ok := w.nodes[name].answers[addr]; ok && w.nodes[name].alive {
			out = append(out, string(name))
		}
	}
	return strings.Join(out, " ")
}

// change edits the world's facts and tells everybody.
func (w *world) change(edit func(*kube.Facts)) {
	w.mu.Lock()
	f := kube.Facts{Services: slices.Clone(w.facts.Services), Endpoints: w.facts.Endpoints, Nodes: maps.Clone(w.facts.Nodes),
		Pools: slices.Clone(w.facts.Pools), L2: slices.Clone(w.facts.L2), BGP: slices.Clone(w.facts.BGP), BGPPeers: slices.Clone(w.facts.BGPPeers)}
	edit(&f)
	f.Version = w.facts.Version
	if !reflect.DeepEqual(f, withEndpoints(w.facts, f.Endpoints)) {
		f.Version++
	}
	w.facts = f
	w.mu.Unlock()
	for _, n := range w.nodes {
		n.FactsChanged()
	}
}

func withEndpoints(f kube.Facts, endpoints lb.Endpoints) kube.Facts {
	f.Endpoints = endpoints
	return f
}

// pass lets time pass until nobody works any more; only then the nodes' fields may be read without the lock.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) tellMembers() {
	for _, n := range w.nodes {
		n.Trigger()
	}
}

func service(key lb.ServiceKey, addr netip.Addr) lb.Service {
	return lb.Service{Key: key, Ports: []lb.Port{{Name: "p", Protocol: lb.TCP, Port: 80}}, ExternalTrafficPolicy: lb.Cluster,
		Ingress: []lb.Ingress{{Addr: addr, Mode: lb.ModeProxy}}}
}

func endpoint(node lb.NodeName) lb.Endpoint {
	return lb.Endpoint{PortName: "p", Protocol: lb.TCP, Addr: netip.MustParseAddrPort("10.244.1.2:8080"), Node: node, Ready: true, Serving: true}
}

// inWorld runs script in a bubble with n running speakers and Service web on vip.
func inWorld(t *testing.T, n int, script func(t *testing.T, w *world)) {
	t.Helper()
	inWorldOf(t, n, script)
}

// inWorldOf does the same with speakers whose options were edited.
func inWorldOf(t *testing.T, n int, script func(t *testing.T, w *world), edits ...func(*node, *Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: map[lb.NodeName]*node{}, facts: kube.Facts{Version: 1,
			Services:  []lb.Service{service(web, vip)},
			Endpoints: lb.EndpointsOf(map[lb.ServiceKey][]lb.Endpoint{web: {endpoint("n1")}}),
			Nodes:     map[lb.NodeName]lb.Node{}, L2: []lb.L2Advertisement{{Name: "all"}},
		}}
		for i := 1; i <= n; i++ {
			name := lb.NodeName(fmt.Sprintf("n%d", i))
			w.facts.Nodes[name] = lb.Node{Name: name}
			w.nodes[name] = w.newNode(name, byte(i), edits...)
		}
		for _, n := range w.nodes {
			n.start()
		}
		pass(time.Second)
		script(t, w)
		for _, n := range w.nodes {
			n.stop()
			if n.done != nil {
				if err := <-n.done; err != nil {
					t.Errorf("Run of %s: %v", n.name, err)
				}
			}
		}
		time.Sleep(time.Minute)
	})
}

func (w *world) newNode(name lb.NodeName, i byte, edits ...func(*node, *Options)) *node {
	n := &node{world: w, name: name, alive: true, refuse: map[netip.Addr]bool{}, links: []lb.Link{{Name: "eth0", Index: 2, MAC: lb.MAC{2, 0, 0, 0, 0, i}, Up: true,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}}
	o := Options{Node: name, Facts: n, Gossip: n, Links: fakeLinks{n}, Announcer: n, Engine: fakeEngine{n}, Events: n, Heartbeat: fakeHeartbeat{n},
		Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
	for _, edit := range edits {
		edit(n, &o)
	}
	s, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	n.Speaker = s
	return n
}

func (n *node) start() {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.done = cancel, make(chan error, 1)
	go func() { n.done <- n.Run(ctx) }()
}

// die ends the node as a power cut would: nobody hears from it again, and the others notice after a second.
func (n *node) die() {
	n.world.mu.Lock()
	n.alive = false
	n.world.note("%s dies", n.name)
	n.world.mu.Unlock()
	time.Sleep(time.Second)
	n.world.tellMembers()
}

// Facts implements FactSource.
func (n *node) Facts(context.Context) (kube.Facts, error) {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	if n.world.down {
		return kube.Facts{}, errors.New("cache not synced")
	}
	return n.world.facts, nil
}

// SetSelf implements Gossip.
func (n *node) SetSelf(m lb.Member) {
	n.world.mu.Lock()
	news := fmt.Sprint(m) != fmt.Sprint(n.member)
	m.Node = n.name
	n.member = m
	n.world.mu.Unlock()
	if news {
		time.AfterFunc(time.Millisecond, n.world.tellMembers)
	}
}

// Members implements Gossip.
func (n *node) Members() []lb.Member {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	var out []lb.Member
	for _, name := range slices.Sorted(maps.Keys(n.world.nodes)) {
		if o := n.world.nodes[name]; o.alive && n.alive || o == n {
			m := o.member
			m.Node = name
			out = append(out, m)
		}
	}
	return out
}

// Rejoin implements Gossip.
func (n *node) Rejoin() { n.world.mu.Lock(); n.rejoins++; n.world.mu.Unlock() }

// Known implements Gossip.
func (n *node) Known() map[lb.NodeName]netip.Addr {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	out := map[lb.NodeName]netip.Addr{}
	for name := range n.world.nodes {
		if name != n.name {
			out[name] = netip.MustParseAddr("192.0.2.1")
		}
	}
	return out
}

// UpToDate implements Gossip.
func (n *node) UpToDate(since time.Time) bool {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	return n.heard.After(since)
}

type fakeHeartbeat struct{ n *node }

// Watch implements Heartbeat.
func (f fakeHeartbeat) Watch(peers map[lb.NodeName]netip.Addr) {
	f.n.world.mu.Lock()
	defer f.n.world.mu.Unlock()
	f.n.watched = maps.Clone(peers)
}

// Suspects implements Heartbeat.
func (f fakeHeartbeat) Suspects() map[lb.NodeName]bool {
	f.n.world.mu.Lock()
	defer f.n.world.mu.Unlock()
	out := map[lb.NodeName]bool{}
	for name := range f.n.watched {
		if f.n.world.nodes[name].silent && !f.n.silent {
			out[name] = false
		}
	}
	return out
}

// Fresh implements Heartbeat.
func (f fakeHeartbeat) Fresh() bool {
	f.n.world.mu.Lock()
	defer f.n.world.mu.Unlock()
	return !f.n.asleep
}

// GoOn implements Heartbeat.
func (f fakeHeartbeat) GoOn() {
	f.n.world.mu.Lock()
	defer f.n.world.mu.Unlock()
	f.n.asleep = false
}

// Sleeps implements Heartbeat.
func (f fakeHeartbeat) Sleeps() uint64 {
	f.n.world.mu.Lock()
	defer f.n.world.mu.Unlock()
	return f.n.sleeps
}

type fakeLinks struct{ n *node }

// Links implements LinkSource.
func (f fakeLinks) Links() ([]lb.Link, error) {
	f.n.world.mu.Lock()
	defer f.n.world.mu.Unlock()
	return slices.Clone(f.n.links), nil
}

// Watch implements LinkSource.
func (f fakeLinks) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// Set implements Announcer.
func (n *node) Set(want map[netip.Addr]announce.Target) map[netip.Addr]announce.Target {
	n.world.mu.Lock()
	drowsy := n.drowsy
	n.world.mu.Unlock()
	time.Sleep(drowsy)
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.sets++
	if n.noSock {
		want = nil
	}
	want = maps.Clone(want)
	maps.DeleteFunc(want, func(a netip.Addr, _ announce.Target) bool { _, ok := n.taken[a]; return ok })
	for addr := range n.answers {
		if _, ok := want[addr]; !ok {
			n.world.note("%s withdraws %s", n.name, addr)
		}
	}
	for addr, t := range want {
		if old, ok := n.answers[addr]; !ok || old.Epoch != t.Epoch {
			n.world.note("%s announces %s epoch %d", n.name, addr, t.Epoch)
		}
	}
	n.answers = maps.Clone(want)
	return maps.Clone(want)
}

// SetLinks implements Announcer.
func (n *node) SetLinks([]lb.Link) {}

// Working implements Announcer.
func (n *node) Working() map[string]bool { return map[string]bool{"eth0": true} }

// Conflicts implements Announcer.
func (n *node) Conflicts() map[netip.Addr]lb.MAC {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	return maps.Clone(n.taken)
}

type fakeEngine struct{ n *node }

// Name implements Engine.
func (f fakeEngine) Name() string { return "fake" }

// Sync implements Engine.
func (f fakeEngine) Sync(_ context.Context, want datapath.State, _ time.Time) (datapath.State, error) {
	n := f.n
	n.world.mu.Lock()
	slow := n.slow
	n.world.mu.Unlock()
	time.Sleep(slow)
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.syncs++
	var err error
	got := want.Clone()
	got.VIPs = slices.DeleteFunc(got.VIPs, func(a netip.Addr) bool { return n.refuse[a] })
	if len(got.VIPs) < len(want.VIPs) {
		err = errors.New("operation not supported")
	}
	for _, a := range got.VIPs {
		if !slices.Contains(n.kernel.VIPs, a) {
			n.world.note("%s programs %s", n.name, a)
		}
	}
	for _, a := range n.kernel.VIPs {
		if !slices.Contains(got.VIPs, a) {
			n.world.note("%s unprograms %s", n.name, a)
		}
	}
	n.kernel = got
	var rejected datapath.Rejected
	for _, v := range want.Servers {
		if v.Service == n.reject {
			rejected = append(rejected, datapath.Rejection{Server: *v, Err: errors.New("no memory")})
		}
	}
	if len(rejected) > 0 {
		return got.Without(rejected).Lacking(nil, rejected), errors.Join(err, rejected)
	}
	return got, err
}

// PeerEvent implements Recorder.
func (n *node) PeerEvent(peer string, _ bool, reason, _ string) {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.events = append(n.events, peer+" "+reason)
}

// Event implements Recorder.
func (n *node) Event(svc lb.ServiceKey, warning bool, reason, message string) {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.events = append(n.events, fmt.Sprintf("%s %t %s: %s", svc, warning, reason, message))
}
