package speaker

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

func TestAnnouncesAfterProgrammingAndWithdrawsBefore(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		if d := cmp.Diff([]string{"n1 programs 192.0.2.200", "n1 announces 192.0.2.200 epoch 1"}, w.took()); d != "" {
			t.Errorf("at start (-want +got):\n%s", d)
		}
		w.change(func(f *kube.Facts) {
			f.Services = append([]lb.Service{service(dns, vip2)}, f.Services...)
			f.Endpoints.Set(dns, []lb.Endpoint{endpoint("n1")})
		})
		time.Sleep(time.Second)
		w.change(func(f *kube.Facts) { f.Services = nil })
		time.Sleep(time.Second)
		got := w.took()
		slices.Sort(got[2:4])
		slices.Sort(got[4:])
		want := []string{"n1 programs 192.0.2.201", "n1 announces 192.0.2.201 epoch 1",
			"n1 withdraws 192.0.2.200", "n1 withdraws 192.0.2.201", "n1 unprograms 192.0.2.200", "n1 unprograms 192.0.2.201"}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("a Service came, all went (-want +got):\n%s", d)
		}
	})
}

// TestForwardingWaitsForTheAnnouncementsOnlyWhereItEnds: an endpoint that comes or goes beside others reaches the kernel before the
// announcer was asked; the last one that goes, and an address, only after it has answered.
func TestForwardingWaitsForTheAnnouncementsOnlyWhereItEnds(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		n.drowsy = 10 * time.Second
		other := endpoint("n1")
		other.Addr = netip.MustParseAddrPort("10.244.1.3:8080")
		has := func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			return n.kernel.String()
		}
		for _, step := range []struct {
			name   string
			change func(*kube.Facts)
			waits  bool
		}{
			{"an endpoint comes", func(f *kube.Facts) { f.Endpoints.Set(web, []lb.Endpoint{endpoint("n1"), other}) }, false},
			{"the first one goes", func(f *kube.Facts) { f.Endpoints.Set(web, []lb.Endpoint{other}) }, false},
			{"a Service comes", func(f *kube.Facts) {
				f.Services = []lb.Service{service(dns, vip2), f.Services[0]}
				f.Endpoints.Set(dns, []lb.Endpoint{other})
			}, false},
			{"the last endpoint goes", func(f *kube.Facts) { f.Endpoints.Set(web, nil) }, true},
			{"an address goes", func(f *kube.Facts) { f.Services = f.Services[1:] }, true},
		} {
			before := has()
			w.change(step.change)
			pass(5 * time.Second)
			during := has()
			if waited := during == before; waited != step.waits {
				t.Errorf("%s: waited for the announcer %v, want %v; the kernel has\n%s", step.name, waited, step.waits, during)
			}
			pass(time.Minute)
			if after := has(); (after != during) != step.waits {
				t.Errorf("%s: the kernel had\n%sand after a minute\n%s", step.name, during, after)
			}
		}
		n.drowsy = 0
	})
}

// TestEndpointsThatNoAnnouncementHeeds: they reach the kernel, and nothing else is decided again.
func TestEndpointsThatNoAnnouncementHeeds(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		other, leaving := endpoint("n1"), endpoint("n1")
		other.Addr = netip.MustParseAddrPort("10.244.1.3:8080")
		leaving.Ready, leaving.Terminating = false, true
		local := service(dns, vip2)
		local.ExternalTrafficPolicy = lb.Local
		are := func(key lb.ServiceKey, list ...lb.Endpoint) func(*kube.Facts) {
			return func(f *kube.Facts) { f.Endpoints.Set(key, list) }
		}
		for _, step := range []struct {
			name   string
			change func(*kube.Facts)
			upset  bool // and something else has happened
			heeded bool
		}{
			{"one comes", are(web, endpoint("n1"), other), false, false},
			{"one is about to go", are(web, leaving, other), false, false},
			{"it goes", are(web, other), false, false},
			{"the last one is about to go", are(web, leaving), false, false},
			{"all go", are(web), false, true},
			{"one comes to none", are(web, endpoint("n1")), false, true},
			{"one comes when the members may have changed", are(web, endpoint("n1"), other), true, true},
			{"nothing", func(*kube.Facts) {}, false, false},
			{"a Service comes", func(f *kube.Facts) { f.Services = []lb.Service{local, f.Services[0]} }, false, true},
			{"one comes to it", are(dns, endpoint("n1")), false, true},
			{"another one comes to it, whose policy is Local", are(dns, endpoint("n1"), other), false, true},
			{"a node comes", func(f *kube.Facts) { f.Nodes["n2"] = lb.Node{Name: "n2"} }, false, true},
			{"one goes", are(web, other), false, false},
		} {
			sets := n.sets
			w.change(step.change)
			if step.upset {
				n.Trigger()
			}
			pass(time.Second)
			if heeded := n.sets > sets; heeded != step.heeded {
				t.Errorf("%s: the announcements were decided again: %v, want %v", step.name, heeded, step.heeded)
			}
			want := datapath.Desired(lb.Snapshot{Self: "n1", Forwards: true, Services: w.facts.Services, Endpoints: w.facts.Endpoints, Nodes: w.facts.Nodes})
			if d := cmp.Diff(want.String(), n.kernel.String()); d != "" {
				t.Errorf("%s: the kernel (-want +got):\n%s", step.name, d)
			}
		}
		sets := n.sets
		for range 40 { // as long as endpoints alone change, all the rest is looked at from time to time
			w.change(are(web, other, endpoint("n1")))
			pass(time.Second)
			w.change(are(web, other))
			pass(time.Second)
		}
		if asked := n.sets - sets; asked < 2 || asked > 4 {
			t.Errorf("in 80 seconds of changes the announcer was asked %d times, want every 30 seconds", asked)
		}
	})
}

func TestOneOwnerAndATakeoverThatDoesNotWaitForTheDatapath(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		owner := w.answering(vip)
		if _, ok := w.nodes[lb.NodeName(owner)]; !ok {
			t.Fatalf("%q answer, want one node", owner)
		}
		w.mu.Lock()
		for _, n := range w.nodes {
			n.slow = time.Minute
		}
		w.mu.Unlock()
		w.change(func(f *kube.Facts) {
			f.Services[0].Ports = append(f.Services[0].Ports, lb.Port{Name: "q", Protocol: lb.TCP, Port: 81})
		})
		time.Sleep(time.Second)
		w.took()
		w.nodes[lb.NodeName(owner)].die()
		time.Sleep(50 * time.Millisecond)
		heir := w.answering(vip)
		if heir == "" || heir == owner {
			t.Errorf("%q answer after %s died", heir, owner)
		}
		if got := w.took(); len(got) != 2 || !strings.HasPrefix(got[1], heir+" announces 192.0.2.200 epoch ") {
			t.Errorf("log %q", got)
		}
	})
}

func TestDrainLeavesNoMomentWithoutAnAnswer(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		owner := w.nodes[lb.NodeName(w.answering(vip))]
		w.took()
		start := time.Now()
		owner.stop()
		for {
			if w.answering(vip) == "" {
				t.Fatal("nobody answers")
			}
			select {
			case err := <-owner.done:
				if err != nil {
					t.Fatal(err)
				}
			default:
				time.Sleep(100 * time.Microsecond)
				continue
			}
			break
		}
		owner.done = nil
		heir := w.answering(vip)
		t.Logf("%s took over from %s within %s", heir, owner.name, time.Since(start))
		if got := w.took(); len(got) != 2 || !strings.HasPrefix(got[0], heir+" announces 192.0.2.200 epoch ") || got[1] != string(owner.name)+" withdraws 192.0.2.200" {
			t.Errorf("log %q, want an announcement, then a withdrawal", got)
		}
		if len(owner.kernel.VIPs) != 1 {
			t.Error("the datapath was taken down, and connections with it")
		}
	})
}

func TestDrainAloneDoesNotWait(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		start := time.Now()
		n.stop()
		if err := <-n.done; err != nil {
			t.Error(err)
		}
		n.done = nil
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %s although nobody could take over", took)
		}
		if w.answering(vip) != "" {
			t.Error("still answers")
		}
	})
}

func TestAFailureOnOneNodeMovesTheAddress(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		owner := w.nodes[lb.NodeName(w.answering(vip))]
		w.mu.Lock()
		owner.refuse[vip] = true
		w.mu.Unlock()
		time.Sleep(time.Minute) // the next periodic sync meets the refusal
		if got := w.answering(vip); got == "" || got == string(owner.name) {
			t.Errorf("%q answer", got)
		}
		for _, n := range w.nodes {
			w.mu.Lock()
			n.refuse[vip] = true
			w.mu.Unlock()
		}
		time.Sleep(time.Minute)
		if got := w.answering(vip); got != "" {
			t.Errorf("%q answer although no datapath forwards", got)
		}
		w.mu.Lock()
		delete(owner.refuse, vip)
		w.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if got := w.answering(vip); got != string(owner.name) {
			t.Errorf("%q answer, want %s, whose datapath works again", got, owner.name)
		}
	})
}

func TestWithoutTheAPIServer(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		owner := w.nodes[lb.NodeName(w.answering(vip))]
		w.mu.Lock()
		w.down = true
		w.mu.Unlock()
		for _, n := range w.nodes {
			n.FactsChanged()
		}
		pass(10 * time.Minute)
		if got := w.answering(vip); got != string(owner.name) {
			t.Errorf("%q answer after ten minutes without API server, want %s", got, owner.name)
		}
		owner.die()
		pass(time.Second)
		if got := w.answering(vip); got == "" || got == string(owner.name) {
			t.Errorf("%q answer after %s died", got, owner.name)
		}
		fresh := w.newNode("n9", 9) // one that never got any facts
		w.mu.Lock()
		w.nodes["n9"] = fresh
		w.mu.Unlock()
		fresh.start()
		pass(time.Minute)
		if fresh.syncs > 0 || fresh.Ready() || !fresh.Healthy(time.Now()) {
			t.Errorf("a speaker without facts: %d syncs, ready %t, healthy %t", fresh.syncs, fresh.Ready(), fresh.Healthy(time.Now()))
		}
	})
}

// setLink changes the state of a node's link and lets everybody react.
func (n *node) setLink(up bool) {
	n.world.mu.Lock()
	n.links[0].Up = up
	n.world.mu.Unlock()
	n.linksChanged.Store(true)
	n.Trigger()
	pass(100 * time.Millisecond)
}

func TestLinkLossMovesTheAddressAndAReturnDoesNot(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		owner := w.nodes[lb.NodeName(w.answering(vip))]
		owner.setLink(false)
		heir := w.answering(vip)
		if heir == "" || heir == string(owner.name) {
			t.Errorf("%q answer after the link of %s went down", heir, owner.name)
		}
		owner.setLink(true)
		time.Sleep(time.Minute)
		if got := w.answering(vip); got != heir {
			t.Errorf("%q answer after the link came back, want %s still", got, heir)
		}
	})
}

func (n *node) claims() int {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	return len(n.member.Claims)
}

// TestAReturningLinkIsNotTrustedBeforeTheOthersWereHeard is about a node that lost its link and with it all other members.
func TestAReturningLinkIsNotTrustedBeforeTheOthersWereHeard(t *testing.T) {
	tests := []struct {
		name  string
		heard time.Duration // after the link's return; 0 = never
		trust time.Duration
	}{
		{"others heard at once", 300 * time.Millisecond, 300 * time.Millisecond},
		{"others heard late", 5 * time.Second, 5 * time.Second},
		{"nobody left", 0, trustAnyway},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 2, func(t *testing.T, w *world) {
				n := w.nodes[lb.NodeName(w.answering(vip))]
				n.setLink(false)
				w.mu.Lock()
				n.alive = false
				w.mu.Unlock()
				n.setLink(true)
				start := time.Now()
				w.mu.Lock()
				if n.rejoins == 0 {
					t.Error("the others are not looked for")
				}
				w.mu.Unlock()
				if tt.heard > 0 {
					time.AfterFunc(tt.heard, func() {
						w.mu.Lock()
						n.heard = time.Now()
						w.mu.Unlock()
						n.Trigger()
					})
				}
				for n.claims() == 0 && time.Since(start) < time.Minute {
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(start); took < tt.trust-200*time.Millisecond || took > tt.trust+200*time.Millisecond {
					t.Errorf("claimed the address after %s, want %s", took, tt.trust)
				}
			})
		})
	}
}

func TestAnnouncementThatTheWireRefuses(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		w.mu.Lock()
		n.noSock = true
		w.mu.Unlock()
		n.Trigger()
		pass(time.Second)
		d := n.status.Load().Decisions[0]
		if d.Announce || d.Reason != lb.AnnouncementRefused || len(n.member.Claims) != 0 {
			t.Errorf("%s, claims %v", d, n.member.Claims)
		}
	})
}

func TestEventsAndConflicts(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		owner := w.nodes[lb.NodeName(w.answering(vip))]
		var other *node
		for _, n := range w.nodes {
			if n != owner {
				other = n
			}
		}
		w.mu.Lock()
		other.events = nil // two that start at the same time may both begin, until they hear of each other
		w.mu.Unlock()
		owner.Conflict(vip, "eth0", other.links[0].MAC)
		w.mu.Lock()
		other.alive = false
		w.mu.Unlock()
		owner.Trigger()
		pass(time.Second)
		owner.Conflict(vip, "eth0", other.links[0].MAC) // it is back on the wire before it is a member again
		owner.Conflict(vip, "eth0", lb.MAC{2, 0, 0, 0, 0, 0x66})
		w.change(func(f *kube.Facts) { f.L2 = nil })
		pass(time.Minute)
		n := string(owner.name)
		want := []string{
			"default/web false Announcing: " + n + " announces 192.0.2.200 on eth0",
			"default/web true AddressConflict: 192.0.2.200 is also used by 02:00:00:00:00:66, which is no speaker, on the segment of " + n + "'s eth0; " + n + " goes on announcing it: " + wayOut,
			"default/web false Withdrawn: " + n + " no longer announces 192.0.2.200: neither an L2Advertisement nor a BGPAdvertisement covers 192.0.2.200",
		}
		if d := cmp.Diff(want, owner.events[max(0, len(owner.events)-len(want)):]); d != "" {
			t.Errorf("events of the owner (-want +got):\n%s", d)
		}
		if len(other.events) != 0 {
			t.Errorf("events of the other: %q", other.events)
		}
		told := owner.decisionsView().Changes
		if len(told) != 2 || !told[1].Announce || told[1].VIP != vip || told[0].Announce || told[0].Reason != lb.NotAdvertised || !told[0].At.After(told[1].At) {
			t.Errorf("the owner tells of %+v", told)
		}
	})
}

func TestHandlerAndMetrics(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		get := func(path string) (int, string) {
			r := httptest.NewRecorder()
			n.Handler().ServeHTTP(r, httptest.NewRequest("GET", path, nil))
			return r.Code, r.Body.String()
		}
		for _, path := range []string{"/healthz", "/livez", "/readyz"} {
			if code, body := get(path); code != 200 {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
		_, body := get("/debug/decisions")
		var got view.Decisions
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Decisions) != 1 || got.Decisions[0].VIP != vip || !got.Decisions[0].Announce || got.Decisions[0].Epoch != 1 || len(got.Members) != 1 {
			t.Errorf("decisions: %s", body)
		}
		if _, body := get("/debug/datapath"); !strings.Contains(body, `"listener": "192.0.2.200:80/TCP"`) {
			t.Errorf("datapath: %s", body)
		}
		r := httptest.NewRecorder()
		promhttp.HandlerFor(n.o.Registerer.(*prometheus.Registry), promhttp.HandlerOpts{}).ServeHTTP(r, httptest.NewRequest("GET", "/metrics", nil))
		for _, want := range []string{
			`fairlead_speaker_announced{ip="192.0.2.200",service="default/web",via="L2"} 1`,
			`fairlead_speaker_ownership_changes_total 1`,
			`fairlead_gossip_members 1`,
			`fairlead_datapath_engine_info{engine="fake"} 1`,
			`fairlead_datapath_sync_errors_total 0`,
			`fairlead_datapath_sync_duration_seconds_count `,
			`fairlead_datapath_programming_duration_seconds_count 1`,
		} {
			if !strings.Contains(r.Body.String(), "\n"+want) {
				t.Errorf("metrics lack %s:\n%s", want, r.Body)
			}
		}
		if n.Healthy(time.Now().Add(time.Hour)) {
			t.Error("a loop that has not run for an hour is healthy")
		}
		n.draining.Store(true)
		n.Trigger()
		time.Sleep(time.Second)
		if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "draining") {
			t.Errorf("/readyz while draining: %d %s", code, body)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New(Options{Node: "n1"}); err == nil {
		t.Error("options without executors are accepted")
	}
	if _, err := (Options{Node: "n1", Facts: &node{}, Gossip: &node{}, Links: fakeLinks{}, Announcer: &node{}, Events: &node{}, Log: slog.Default(),
		Registerer: prometheus.NewRegistry(), Engine: fakeEngine{}, Forwarder: &fakeForwarder{}}).validate(); err == nil {
		t.Error("a node that forwards itself and asks another forwarder is accepted")
	}
}
