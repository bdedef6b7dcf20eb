package speaker

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// fakeBGP is the process that runs the sessions: it carries a State out after a while, and notes what its peers hear.
type fakeBGP struct {
	n     *node
	delay time.Duration

	// All guarded by world.mu.
	want  bgp.State
	done  bgp.State
	bfd   string
	down  bool // no peer can be reached
	stuck bool // it no longer reports
}

// Set implements BGP.
func (f *fakeBGP) Set(want bgp.State) {
	f.n.world.mu.Lock()
	f.want = want
	f.n.world.mu.Unlock()
	time.AfterFunc(f.delay, f.work)
}

func (f *fakeBGP) work() {
	f.n.world.mu.Lock()
	defer f.n.world.mu.Unlock()
	if f.stuck {
		return
	}
	for _, p := range f.want.Peers {
		gone, fresh := bgp.Diff(pathsOf(f.done, p.Name), p.Paths)
		for _, prefix := range gone {
			f.n.world.note("%s withdraws %s from %s", f.n.name, prefix, p.Name)
		}
		for _, path := range fresh {
			f.n.world.note("%s tells %s %s", f.n.name, p.Name, path)
		}
	}
	for _, p := range f.done.Peers {
		if !slices.ContainsFunc(f.want.Peers, func(o bgp.Peer) bool { return o.Name == p.Name }) {
			f.n.world.note("%s ceases with %s", f.n.name, p.Name)
		}
	}
	f.done = f.want
	time.AfterFunc(0, f.n.Trigger)
}

func pathsOf(s bgp.State, peer string) []bgp.Path {
	for _, p := range s.Peers {
		if p.Name == peer {
			return p.Paths
		}
	}
	return nil
}

// Report implements BGP.
func (f *fakeBGP) Report() bgp.Report {
	f.n.world.mu.Lock()
	defer f.n.world.mu.Unlock()
	out := bgp.Report{Seq: f.done.Seq}
	for _, p := range f.done.Peers {
		x := bgp.Session{Peer: p.Name, State: bgp.Established, PeerASN: p.PeerASN, Sent: len(p.Paths), BFD: f.bfd}
		if f.down {
			x.State, x.Reason, x.Message, x.LastError = bgp.Active, "BGPRefused", "nobody listens", "connection refused"
		}
		out.Sessions = append(out.Sessions, x)
	}
	return out
}

// inBGP is a world of one node that announces vip and vip2 to peers tor and, kept over a restart, gr; by BGP alone.
func inBGP(t *testing.T, script func(*testing.T, *world, *node, *fakeBGP), edits ...func(*kube.Facts)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: map[lb.NodeName]*node{}, facts: bgpFacts()}
		for _, edit := range edits {
			edit(&w.facts)
		}
		fake := &fakeBGP{delay: 20 * time.Millisecond}
		n := w.newNode("n1", 11, func(n *node, o *Options) { fake.n, o.BGP = n, fake })
		w.nodes["n1"] = n
		n.start()
		pass(time.Second)
		script(t, w, n, fake)
		n.stop()
		if err := <-n.done; err != nil {
			t.Errorf("Run: %v", err)
		}
		time.Sleep(time.Minute)
	})
}

func bgpFacts() kube.Facts {
	at := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, last}) }
	pod := []lb.Endpoint{{PortName: "p", Protocol: lb.TCP, Addr: netip.MustParseAddrPort("10.244.1.2:8080"), Node: "n1", Ready: true, Serving: true}}
	return kube.Facts{
		Services:  []lb.Service{service(dns, vip2), service(web, vip)},
		Endpoints: lb.EndpointsOf(map[lb.ServiceKey][]lb.Endpoint{web: pod, dns: pod}),
		Nodes:     map[lb.NodeName]lb.Node{"n1": {Name: "n1", Addrs: []netip.Addr{at(11)}}},
		BGP:       []lb.BGPAdvertisement{{Name: "a", Length: 32, LengthV6: 128}},
		BGPPeers: []lb.BGPPeer{
			{Name: "gr", Addr: at(2), MyASN: 64512, PeerASN: 64514, GracefulRestart: true, RestartTime: time.Minute, DrainWait: 2 * time.Second},
			{Name: "tor", Addr: at(1), MyASN: 64512, PeerASN: 64513, DrainWait: 2 * time.Second}},
	}
}

func wantLog(t *testing.T, w *world, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.took()); diff != "" {
		t.Errorf("what happened (-want +got):\n%s", diff)
	}
}

func without(key lb.ServiceKey) func(*kube.Facts) {
	return func(f *kube.Facts) {
		f.Services = slices.DeleteFunc(f.Services, func(s lb.Service) bool { return s.Key == key })
		f.Endpoints.Set(key, nil)
	}
}

// The peers hear of an address after the datapath has programmed it, and the datapath gives it up after they have heard of that.
func TestBGPBesideTheDatapath(t *testing.T) {
	inBGP(t, func(t *testing.T, w *world, n *node, f *fakeBGP) {
		wantLog(t, w, "n1 programs 192.0.2.200", "n1 programs 192.0.2.201",
			"n1 tells gr 192.0.2.200/32", "n1 tells gr 192.0.2.201/32", "n1 tells tor 192.0.2.200/32", "n1 tells tor 192.0.2.201/32")
		if !f.want.Complete || !f.want.Preserved || f.want.Keep {
			t.Errorf("the state is %+v", f.want)
		}
		w.change(without(dns))
		pass(time.Second)
		wantLog(t, w, "n1 withdraws 192.0.2.201/32 from gr", "n1 withdraws 192.0.2.201/32 from tor", "n1 unprograms 192.0.2.201")

		f.stuck = true // a process that has died does not keep the address for ever
		w.change(without(web))
		pass(tellPatience - 10*time.Millisecond)
		wantLog(t, w)
		pass(time.Second)
		wantLog(t, w, "n1 unprograms 192.0.2.200")
		f.stuck = false
	})
}

// While the datapath has not worked through the first facts, no session is opened: peers that kept our paths would drop them.
func TestBGPWaitsForTheDatapath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: map[lb.NodeName]*node{}, facts: bgpFacts()}
		fake := &fakeBGP{}
		n := w.newNode("n1", 11, func(n *node, o *Options) { fake.n, o.BGP, n.slow = n, fake, time.Second })
		w.nodes["n1"] = n
		n.start()
		pass(900 * time.Millisecond)
		if fake.want.Seq != 0 {
			t.Errorf("set before the datapath was filled: %+v", fake.want)
		}
		pass(time.Second)
		if len(pathsOf(fake.want, "tor")) != 2 {
			t.Errorf("afterwards: %+v", fake.want)
		}
		n.stop()
		<-n.done
		time.Sleep(time.Minute)
	})
}

// A speaker that ends on a node that stays asks a peer without graceful restart for other paths, waits, withdraws and ceases; the
// one with it hears nothing.
func TestBGPShutdown(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*kube.Facts)
		want []string
	}{
		"node stays": {func(*kube.Facts) {}, []string{
			"0s n1 tells tor 192.0.2.200/32 prepend 3 65535:0", "2s n1 withdraws 192.0.2.200/32 from tor", "2s n1 ceases with tor"}},
		"node is cordoned": {func(f *kube.Facts) { f.Nodes = map[lb.NodeName]lb.Node{"n1": {Name: "n1", Cordoned: true}} }, []string{
			"0s n1 tells gr 192.0.2.200/32 prepend 3 65535:0", "0s n1 tells tor 192.0.2.200/32 prepend 3 65535:0",
			"2s n1 withdraws 192.0.2.200/32 from gr", "2s n1 withdraws 192.0.2.200/32 from tor", "2s n1 ceases with gr", "2s n1 ceases with tor"}},
	} {
		t.Run(name, func(t *testing.T) {
			var w *world
			var start time.Time
			var got []string
			inBGP(t, func(t *testing.T, world *world, n *node, f *fakeBGP) {
				w, start = world, time.Now()
				w.change(c.edit)
				pass(time.Second)
				w.took()
				start = time.Now()
				n.stop()
				for range 400 {
					pass(10 * time.Millisecond)
					for _, line := range w.took() {
						got = append(got, time.Since(start).Round(time.Second).String()+" "+line)
					}
				}
				if keep := name == "node stays"; f.done.Keep != keep || len(pathsOf(f.done, "gr")) != map[bool]int{true: 1}[keep] {
					t.Errorf("the last state is %+v", f.done)
				}
			}, without(dns))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A node that is excluded is drained; one that was excluded before its speaker started says nothing at all.
func TestBGPExclusion(t *testing.T) {
	exclude := func(yes bool) func(*kube.Facts) {
		return func(f *kube.Facts) { f.Nodes = map[lb.NodeName]lb.Node{"n1": {Name: "n1", Excluded: yes}} }
	}
	inBGP(t, func(t *testing.T, w *world, n *node, f *fakeBGP) {
		w.took()
		w.change(exclude(true))
		pass(time.Second)
		wantLog(t, w, "n1 tells gr 192.0.2.200/32 prepend 3 65535:0", "n1 tells tor 192.0.2.200/32 prepend 3 65535:0")
		w.change(exclude(false))
		pass(time.Second)
		wantLog(t, w, "n1 tells gr 192.0.2.200/32", "n1 tells tor 192.0.2.200/32")
		w.change(exclude(true))
		pass(3 * time.Second)
		wantLog(t, w, "n1 tells gr 192.0.2.200/32 prepend 3 65535:0", "n1 tells tor 192.0.2.200/32 prepend 3 65535:0",
			"n1 withdraws 192.0.2.200/32 from gr", "n1 withdraws 192.0.2.200/32 from tor")
		if d := n.status.Load().Routes[0]; d.Reason != lb.NodeExcluded {
			t.Errorf("the decision is %s", d)
		}
	}, without(dns))
	inBGP(t, func(t *testing.T, w *world, n *node, f *fakeBGP) {
		wantLog(t, w, "n1 programs 192.0.2.200")
	}, without(dns), exclude(true))
}

// What no peer can have heard is no announcement; sessions that come and go are Events.
func TestBGPSessions(t *testing.T) {
	inBGP(t, func(t *testing.T, w *world, n *node, f *fakeBGP) {
		route := func() announce.Decision { return n.status.Load().Routes[0] }
		if d := route(); d.VIP != vip || !d.Announce || strings.Join(d.Peers(), " ") != "gr tor" {
			t.Errorf("with sessions: %s", d)
		}
		f.down = true
		n.Trigger()
		pass(time.Second)
		if d := route(); d.Reason != lb.NoSession || !strings.Contains(d.Message, "nobody listens") {
			t.Errorf("without: %s", d)
		}
		if want := []string{"gr SessionUp", "tor SessionUp", "gr SessionDown", "tor SessionDown"}; !slices.Equal(n.events, want) {
			t.Errorf("events are %v, want %v", n.events, want)
		}
		if len(pathsOf(f.want, "tor")) != 2 {
			t.Error("what is wanted does not depend on what is reached")
		}
		f.down, f.bfd = false, "Up"
		n.Trigger()
		pass(time.Second)
		checkMetrics(t, n, map[string]float64{"fairlead_bgp_session_up": 1, "fairlead_bfd_session_up": 1, "fairlead_bgp_announced_prefixes_total": 2})
	})
}

func TestSpeakerWithoutBGP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: map[lb.NodeName]*node{}, facts: bgpFacts()}
		n := w.newNode("n1", 11)
		w.nodes["n1"] = n
		n.start()
		pass(time.Second)
		if r := n.status.Load().Routes; len(r) != 2 || r[0].Reason != lb.NoSession {
			t.Errorf("routes are %v", r)
		}
		start := time.Now()
		n.stop()
		<-n.done
		if took := time.Since(start); took > time.Second {
			t.Errorf("the drain took %s", took)
		}
		time.Sleep(time.Minute)
	})
}

// checkMetrics compares the series of peer tor.
func checkMetrics(t *testing.T, n *node, want map[string]float64) {
	t.Helper()
	families, err := n.o.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if _, asked := want[f.GetName()]; asked && l.GetName() == "peer" && l.GetValue() == "tor" {
					got[f.GetName()] = m.GetGauge().GetValue()
				}
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// reports remembers what was published.
type reports struct{ list []kube.SpeakerReport }

// Write implements Reporter.
func (r *reports) Write(_ context.Context, s kube.SpeakerReport, _ time.Time) error {
	r.list = append(r.list, s)
	return nil
}

// A speaker publishes how it is: at once, then at most every five seconds, and at its end.
func TestSpeakerReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: map[lb.NodeName]*node{}, facts: bgpFacts()}
		fake, r := &fakeBGP{}, &reports{}
		n := w.newNode("n1", 11, func(n *node, o *Options) { fake.n, o.BGP, o.Reporter, o.Version = n, fake, r, "v7" })
		w.nodes["n1"] = n
		n.start()
		pass(4 * time.Second)
		if len(r.list) != 1 {
			t.Errorf("%d reports in the first seconds, want 1", len(r.list))
		}
		pass(4 * time.Second)
		last := r.list[len(r.list)-1]
		want := kube.SpeakerReport{Version: "v7", Ready: true, Engine: "fake", Programmed: 2, Members: 1, Sessions: fake.Report().Sessions,
			PeerAddrs: map[string]string{"gr": "192.0.2.2", "tor": "192.0.2.1"}, BGPAddresses: 2}
		if diff := cmp.Diff(want, last); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		n.stop()
		<-n.done
		if last := r.list[len(r.list)-1]; !last.Draining {
			t.Errorf("the last report is %+v", last)
		}
		time.Sleep(time.Minute)
	})
}

// A pod is not ready before its first sessions are up, so that a rollout waits for them, but not for a router that is away; one that
// is configured later changes nothing.
func TestReadyWaitsForSessions(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(1000, 0).Add(time.Duration(seconds) * time.Second) }
	up, down := bgp.Session{State: bgp.Established}, bgp.Session{State: bgp.Active}
	for name, steps := range map[string][]struct {
		at       int
		sessions []bgp.Session
		ready    bool
		awaited  bool
	}{
		"comes up":     {{0, nil, false, false}, {1, []bgp.Session{down, up}, true, true}, {2, []bgp.Session{up, up}, true, false}, {3, []bgp.Session{down}, true, false}},
		"never":        {{0, []bgp.Session{down}, true, true}, {9, []bgp.Session{down}, true, true}, {10, []bgp.Session{down}, true, false}},
		"no BGP":       {{0, nil, true, false}, {1, []bgp.Session{down}, true, false}},
		"not ready":    {{0, []bgp.Session{down}, false, false}, {60, []bgp.Session{down}, true, true}},
		"up at once":   {{0, []bgp.Session{up}, true, false}, {1, []bgp.Session{down}, true, false}},
		"and restarts": {{0, []bgp.Session{down}, true, true}, {20, []bgp.Session{down}, true, false}, {21, []bgp.Session{down}, true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var o opening
			for _, step := range steps {
				if left := o.observe(step.sessions, step.ready, at(step.at)); o.awaited != step.awaited || left > 0 != step.awaited {
					t.Errorf("after %d s: awaited %v for %s", step.at, o.awaited, left)
				}
			}
		})
	}
	inBGP(t, func(t *testing.T, w *world, n *node, f *fakeBGP) {
		if !n.Ready() {
			t.Error("not ready with its sessions up")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: map[lb.NodeName]*node{}, facts: bgpFacts()}
		fake := &fakeBGP{down: true}
		n := w.newNode("n1", 11, func(n *node, o *Options) { fake.n, o.BGP = n, fake })
		w.nodes["n1"] = n
		n.start()
		pass(openingPatience / 2)
		if n.Ready() || !strings.Contains(n.whyNotReady(), "BGP sessions") {
			t.Error("ready before the sessions are up")
		}
		pass(openingPatience)
		if !n.Ready() {
			t.Error("not ready though it has waited long enough")
		}
		n.stop()
		<-n.done
		time.Sleep(time.Minute)
	})
}
