package speaker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/healthnodeport"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// fakeForwarder says at every port that it is asked about what it was told to say.
type fakeForwarder struct {
	mu    sync.Mutex
	asked map[lb.ServiceKey]uint16
	says  map[lb.ServiceKey]lb.HealthCheck
}

// Set implements Forwarder.
func (f *fakeForwarder) Set(ports map[lb.ServiceKey]uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = ports
}

// Answers implements Forwarder.
func (f *fakeForwarder) Answers() map[lb.ServiceKey]lb.HealthCheck {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := maps.Clone(f.says)
	maps.DeleteFunc(out, func(k lb.ServiceKey, _ lb.HealthCheck) bool { _, asked := f.asked[k]; return !asked })
	return out
}

func (f *fakeForwarder) say(c lb.HealthCheck) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.says = map[lb.ServiceKey]lb.HealthCheck{web: c}
}

// A Service with policy Local and endpoints on n1 and n2 follows what the nodes' forwarders say.
func TestTheForwarderIsAskedBeforeAnAddressIsAnnounced(t *testing.T) {
	forwarders := map[lb.NodeName]*fakeForwarder{}
	announceOnly := func(n *node, o *Options) {
		f := &fakeForwarder{}
		forwarders[n.name], o.Engine, o.Forwarder = f, nil, f
	}
	inWorldOf(t, 3, func(t *testing.T, w *world) {
		w.change(func(f *kube.Facts) {
			f.Services[0].ExternalTrafficPolicy, f.Services[0].HealthCheckNodePort = lb.Local, 30123
			f.Services[0].Ingress = []lb.Ingress{{Addr: vip2, Mode: lb.ModeVIP}}
			one, two := endpoint("n1"), endpoint("n2")
			two.Addr = netip.MustParseAddrPort("10.244.2.2:8080")
			f.Endpoints.Set(web, []lb.Endpoint{one, two})
		})
		pass(time.Second)
		if got := w.answering(vip2); got != "" {
			t.Errorf("%q announce before a forwarder has answered", got)
		}
		for name, f := range forwarders {
			if want := name != "n3"; (len(f.asked) == 1) != want {
				t.Errorf("%s asks at %v; want %v, it has an endpoint or none", name, f.asked, want)
			}
		}
		say := func(name lb.NodeName, c lb.HealthCheck) {
			forwarders[name].say(c)
			w.nodes[name].Trigger()
			pass(time.Second)
		}
		no := lb.HealthCheck{Why: "answers 503 Service Unavailable"}
		say("n1", no)
		say("n2", lb.HealthCheck{OK: true})
		if got := w.answering(vip2); got != "n2" {
			t.Fatalf("%q announce, want n2 whose forwarder says yes", got)
		}
		say("n1", lb.HealthCheck{OK: true})
		if got := w.answering(vip2); got != "n2" {
			t.Errorf("%q announce, want n2: it has the address and serves it", got)
		}
		say("n2", no)
		if got := w.answering(vip2); got != "n1" {
			t.Errorf("%q announce, want n1 after n2's forwarder said no", got)
		}
		if d := w.nodes["n2"].status.Load().Decisions[0]; d.Reason != lb.ForwarderNotReady {
			t.Errorf("n2 says %s, want ForwarderNotReady", d)
		}
		say("n1", no)
		if got := w.answering(vip2); got != "" {
			t.Errorf("%q announce after all have said no", got)
		}
	}, announceOnly)
}

// fakeHealthPorts keeps what was last set.
type fakeHealthPorts struct {
	mu  sync.Mutex
	set map[healthnodeport.Key]healthnodeport.Check
}

// Set implements HealthPorts.
func (f *fakeHealthPorts) Set(want map[healthnodeport.Key]healthnodeport.Check) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set = want
}

func TestHealthPortsFollowTheEndpoints(t *testing.T) {
	ports := &fakeHealthPorts{}
	inWorldOf(t, 1, func(t *testing.T, w *world) {
		key := healthnodeport.Key{Service: web, Addr: netip.MustParseAddrPort("0.0.0.0:30123")}
		for _, step := range []struct {
			name   string
			change func(*kube.Facts)
			want   map[healthnodeport.Key]healthnodeport.Check
		}{
			{"policy Local", func(f *kube.Facts) {
				f.Services[0].ExternalTrafficPolicy, f.Services[0].HealthCheckNodePort, f.Services[0].Families = lb.Local, 30123, []lb.Family{lb.IPv4}
				f.Services[0].ClusterIPs = []netip.Addr{netip.MustParseAddr("10.96.0.1")}
			}, map[healthnodeport.Key]healthnodeport.Check{key: {Endpoints: 1}}},
			{"the endpoint leaves", func(f *kube.Facts) { f.Endpoints.Set(web, []lb.Endpoint{endpoint("n2")}) },
				map[healthnodeport.Key]healthnodeport.Check{key: {Endpoints: 0}}},
			{"policy Cluster", func(f *kube.Facts) {
				f.Services[0].ExternalTrafficPolicy, f.Services[0].HealthCheckNodePort = lb.Cluster, 0
			}, map[healthnodeport.Key]healthnodeport.Check{}},
		} {
			w.change(func(f *kube.Facts) { step.change(f) })
			pass(time.Second)
			if !maps.Equal(ports.set, step.want) {
				t.Errorf("%s: set %v, want %v", step.name, ports.set, step.want)
			}
		}
	}, func(_ *node, o *Options) { o.HealthPorts, o.Forwarding.Full = ports, true })
}

// localService is one with policy Local and an endpoint on n1, as mode full has it.
func localService(key lb.ServiceKey, n byte) lb.Service {
	svc := service(key, netip.AddrFrom4([4]byte{192, 0, 2, n}))
	svc.ExternalTrafficPolicy, svc.HealthCheckNodePort, svc.Families = lb.Local, 30000+uint16(n), []lb.Family{lb.IPv4}
	svc.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, n})}
	return svc
}

// says returns the Services with what was last set for them, "dns 0, web 1".
func (f *fakeHealthPorts) says() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for key, check := range f.set {
		out = append(out, fmt.Sprint(key.Service.Name, " ", check.Endpoints))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestHealthPortsWaitForTheKernel: the outside is told of endpoints once the kernel forwards to them, and no longer than it does.
func TestHealthPortsWaitForTheKernel(t *testing.T) {
	const slow = 10 * time.Second
	ports := &fakeHealthPorts{}
	inWorldOf(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		reject := func(key lb.ServiceKey) {
			w.mu.Lock()
			n.reject = key
			w.mu.Unlock()
		}
		for _, step := range []struct {
			name string
			do   func()
			pass time.Duration
			want string
		}{
			{"the first sync runs", func() {}, time.Second, "web 0"},
			{"it is through", func() {}, slow, "web 1"},
			{"a Service is new", func() {
				w.change(func(f *kube.Facts) {
					f.Services = []lb.Service{localService(dns, 201), f.Services[0]}
					f.Endpoints.Set(dns, f.Endpoints.Of(web))
				})
			}, slow / 2, "dns 0, web 1"},
			{"it is programmed", func() {}, 3 * slow, "dns 1, web 1"},
			{"the kernel refuses it", func() { reject(dns) }, 3 * slow, "dns 0, web 1"},
			{"the kernel takes it", func() { reject(lb.ServiceKey{}) }, 3 * slow, "dns 1, web 1"},
			{"the endpoints of one leave", func() {
				w.change(func(f *kube.Facts) { f.Endpoints.Set(web, []lb.Endpoint{endpoint("n2")}) })
			}, time.Second, "dns 1, web 0"},
			{"they are back, and a sync has to begin first", func() {
				pass(3 * slow)
				w.change(func(f *kube.Facts) { f.Endpoints.Set(web, []lb.Endpoint{endpoint("n1")}) })
			}, time.Second, "dns 1, web 0"},
			{"the kernel forwards to them", func() {}, 2 * slow, "dns 1, web 1"}, // no step is due for another reason
		} {
			step.do()
			pass(step.pass)
			if got := ports.says(); got != step.want {
				t.Errorf("%s: %q, want %q", step.name, got, step.want)
			}
		}
	}, func(n *node, o *Options) {
		o.HealthPorts, o.Forwarding.Full, n.slow = ports, true, slow
		n.world.facts.Services = []lb.Service{localService(web, 200)}
	})
}

// brokenEngine never reaches anything.
type brokenEngine struct{ fakeEngine }

// Sync implements Engine.
func (brokenEngine) Sync(context.Context, datapath.State, time.Time) (datapath.State, error) {
	return datapath.State{}, errors.New("operation not permitted")
}

func TestHealthPortsOfANodeWhoseEngineFails(t *testing.T) {
	ports := &fakeHealthPorts{}
	inWorldOf(t, 1, func(t *testing.T, w *world) {
		for range 3 {
			if got := ports.says(); got != "web 0" {
				t.Errorf("%q, want no endpoint", got)
			}
			pass(time.Minute)
		}
	}, func(n *node, o *Options) {
		o.HealthPorts, o.Forwarding.Full, o.Engine = ports, true, brokenEngine{fakeEngine{n}}
		n.world.facts.Services = []lb.Service{localService(web, 200)}
	})
}

func TestH9H10HealthzAndLivez(t *testing.T) {
	deleting := func(f *kube.Facts) { f.Nodes["n1"] = lb.Node{Name: "n1", Deleting: true} }
	unknown := func(f *kube.Facts) { delete(f.Nodes, "n1") }
	newGoal := func(f *kube.Facts) {
		f.Services = append(f.Services, service(dns, vip2))
		f.Endpoints.Set(dns, f.Endpoints.Of(web))
	}
	// break has the engine reach nothing from now on.
	breakEngine := func(n *node) { n.refuse[vip], n.refuse[vip2] = true, true }
	for _, tt := range []struct {
		name           string
		change         func(*kube.Facts)
		engine         func(*node)
		after          time.Duration
		healthz, livez int
		eligible       bool
	}{
		{name: "well", change: func(*kube.Facts) {}, healthz: 200, livez: 200, eligible: true},
		{name: "being deleted", change: deleting, healthz: 503, livez: 200},
		{name: "unknown to the API server", change: unknown, healthz: 503, livez: 200},
		{name: "a change waits", change: newGoal, engine: breakEngine, after: lateAfter - 2*time.Second, healthz: 200, livez: 200, eligible: true},
		{name: "a change has waited too long", change: newGoal, engine: breakEngine, after: lateAfter, healthz: 503, livez: 503, eligible: true},
		{name: "an engine that hangs", change: newGoal, engine: func(n *node) { n.slow = time.Hour }, after: lateAfter, healthz: 503, livez: 503, eligible: true},
		{name: "one address that cannot be programmed", change: newGoal, engine: func(n *node) { n.refuse[vip2] = true }, after: lateAfter, healthz: 200, livez: 200, eligible: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 1, func(t *testing.T, w *world) {
				n := w.nodes["n1"]
				w.mu.Lock()
				if tt.engine != nil {
					tt.engine(n)
				}
				w.mu.Unlock()
				w.change(tt.change)
				pass(time.Second + tt.after)
				for path, want := range map[string]int{"/healthz": tt.healthz, "/livez": tt.livez} {
					r := httptest.NewRecorder()
					n.Handler().ServeHTTP(r, httptest.NewRequest(http.MethodGet, path, nil))
					var body struct {
						LastUpdated, CurrentTime time.Time
						NodeEligible             *bool
						Healthy                  *bool
						Status                   map[string]struct{ Healthy bool }
					}
					if err := json.Unmarshal(r.Body.Bytes(), &body); err != nil || body.Healthy == nil || len(body.Status) != 2 {
						t.Fatalf("%s: %s (%v)", path, r.Body, errors.Join(err))
					}
					if r.Code != want || *body.Healthy != (tt.livez == 200) || body.Status["IPv4"].Healthy != *body.Healthy {
						t.Errorf("%s: %d %s, want %d", path, r.Code, r.Body, want)
					}
					if (body.NodeEligible != nil) != (path == "/healthz") || body.NodeEligible != nil && *body.NodeEligible != tt.eligible {
						t.Errorf("%s: %s; want nodeEligible %v on /healthz only", path, r.Body, tt.eligible)
					}
					if !body.CurrentTime.Equal(time.Now()) || *body.Healthy != body.LastUpdated.Equal(time.Now()) {
						t.Errorf("%s: %s at %v", path, r.Body, time.Now())
					}
				}
			})
		})
	}
}
