package kube

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/lb"
)

// fullReader is a Reader in mode full that has seen everything there is, which is nothing yet.
func fullReader(t *testing.T) *Reader {
	t.Helper()
	return watching(t, Options{Namespace: home, Full: true})
}

// watching is a speaker's Reader that has seen everything there is, which is nothing yet.
func watching(t *testing.T, opts Options) *Reader {
	t.Helper()
	r := NewSpeakerReader(newFake(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"team": "x"}}}), opts)
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Facts(impatient); err == nil {
		t.Error("facts before the events of the start have been seen (S8)")
	}
	close(r.record.filled)
	return r
}

// inside is a Service of type ClusterIP.
func inside(name string, edits ...func(*corev1.Service)) *corev1.Service {
	return web(append([]func(*corev1.Service){func(s *corev1.Service) {
		s.Name = name
		s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ServiceTypeClusterIP, "10.96.0.1", []string{"10.96.0.1"}
	}}, edits...)...)
}

// tell replays an event as an informer would, and fails if it does not matter.
func tell(t *testing.T, r *Reader, old, now *corev1.Service) {
	t.Helper()
	// An informer that filters by label shows a deletion where an object stops to match.
	seen := func(s *corev1.Service, version string) any {
		if s == nil || !r.opts.services().Label.Matches(labelsOf(s.Labels)) {
			return nil
		}
		s = s.DeepCopy()
		s.ResourceVersion += version
		return kept(t, r.opts, s)
	}
	if a, b := seen(old, ""), seen(now, "+"); a != nil || b != nil {
		r.record.service(a, b)
	}
}

type labelsOf map[string]string

func (l labelsOf) Has(key string) bool                       { _, ok := l[key]; return ok }
func (l labelsOf) Get(key string) string                     { return l[key] }
func (l labelsOf) Lookup(key string) (value string, ok bool) { value, ok = l[key]; return value, ok }

// served lists what the facts say: "web: 10.96.0.1 80 [10.0.0.1:8080]", ours with a star.
func servedBy(t *testing.T, r *Reader) string {
	t.Helper()
	f, err := r.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for i, list := range [][]lb.Service{f.Services, f.Others} {
		for _, s := range list {
			var eps []string
			for _, e := range f.Endpoints.Of(s.Key) {
				eps = append(eps, e.Addr.String())
			}
			out = append(out, strings.Repeat("*", 1-i)+fmt.Sprintf("%s: %v %d %v", s.Key.Name, s.ClusterIPs, s.Ports[0].Port, eps))
		}
	}
	return strings.Join(out, "; ")
}

func TestS1WhoIsServed(t *testing.T) {
	label := func(key string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Labels = map[string]string{key: "x"} }
	}
	for name, c := range map[string]struct {
		s    *corev1.Service
		want string
	}{
		"ClusterIP": {inside("a"), "a: [10.96.0.1] 80 []"},
		"NodePort":  {inside("a", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }), "a: [10.96.0.1] 80 []"},
		"ours":      {inside("a", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer }), "*a: [10.96.0.1] 80 []"},
		"other class": {inside("a", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr("cloud")
		}), "a: [10.96.0.1] 80 []"},
		"headless":       {inside("a", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }), ""},
		"no address yet": {inside("a", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil }), ""},
		"ExternalName": {inside("a", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ServiceTypeExternalName, "", nil
		}), ""},
		"another proxy's":   {inside("a", label("service.kubernetes.io/service-proxy-name")), ""},
		"labelled headless": {inside("a", label("service.kubernetes.io/headless")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := fullReader(t)
			tell(t, r, nil, c.s)
			if got := servedBy(t, r); got != c.want {
				t.Errorf("served: %q, want %q", got, c.want)
			}
			tell(t, r, c.s, inside("a")) // the label, the type, the address: whatever it was, it is gone
			if got := servedBy(t, r); got != "a: [10.96.0.1] 80 []" {
				t.Errorf("served after the change: %q", got)
			}
			tell(t, r, inside("a"), c.s)
			if got := servedBy(t, r); got != c.want {
				t.Errorf("served after the change back: %q, want %q", got, c.want)
			}
		})
	}
}

func TestS4S7CustomSlicesOfOneService(t *testing.T) {
	r := fullReader(t)
	tell(t, r, nil, inside("web"))
	tell(t, r, nil, inside("api"))
	one, two := slice(8080, pod("10.0.0.1", "n1", "r")), slice(8081, pod("10.0.0.2", "n2", "r"), pod("10.0.0.1", "n1", "r"))
	two.Name, two.Labels[discoveryv1.LabelManagedBy] = "by-hand", "me"
	for _, step := range []struct {
		old, now *discoveryv1.EndpointSlice
		matters  bool
		want     string
	}{
		{nil, one, true, "api: [10.96.0.1] 80 []; web: [10.96.0.1] 80 [10.0.0.1:8080]"},
		{nil, two, true, "api: [10.96.0.1] 80 []; web: [10.96.0.1] 80 [10.0.0.1:8080 10.0.0.1:8081 10.0.0.2:8081]"},
		{two, func() *discoveryv1.EndpointSlice { // it goes to another Service
			s := two.DeepCopy()
			s.ResourceVersion, s.Labels[discoveryv1.LabelServiceName] = "8", "api"
			return s
		}(), true, "api: [10.96.0.1] 80 [10.0.0.1:8081 10.0.0.2:8081]; web: [10.96.0.1] 80 [10.0.0.1:8080]"},
		{one, nil, true, "api: [10.96.0.1] 80 [10.0.0.1:8081 10.0.0.2:8081]; web: [10.96.0.1] 80 []"},
		{nil, func() *discoveryv1.EndpointSlice {
			s := slice(80, pod("10.0.0.3", "n1", "r"))
			s.Labels[discoveryv1.LabelServiceName] = "later"
			return s
		}(), false, "api: [10.96.0.1] 80 [10.0.0.1:8081 10.0.0.2:8081]; web: [10.96.0.1] 80 []"},
	} {
		var old, now any
		if step.old != nil {
			old = kept(t, r.opts, step.old)
		}
		if step.now != nil {
			now = kept(t, r.opts, step.now)
		}
		if got := r.record.slice(old, now); got != step.matters {
			t.Errorf("an event matters: %v, want %v", got, step.matters)
		}
		if got := servedBy(t, r); got != step.want {
			t.Errorf("served: %q, want %q", got, step.want)
		}
	}
	tell(t, r, nil, inside("later")) // a slice that came before its Service
	if got := servedBy(t, r); !strings.Contains(got, "later: [10.96.0.1] 80 [10.0.0.3:80]") {
		t.Errorf("served: %q", got)
	}
}

// kept is what the speaker's cache makes of a Service or a slice, by way of a temporary store.
func kept(t testing.TB, opts Options, object any) any {
	t.Helper()
	for _, transform := range []func(any) (any, error){opts.keepService, keepSlice, opts.keepService, keepSlice} {
		out, err := transform(object)
		if err != nil {
			t.Fatal(err)
		}
		object = out
	}
	return object
}

// TestALabelOfANamespaceChanges: its Services are those that they were, with the label.
func TestALabelOfANamespaceChanges(t *testing.T) {
	r := fullReader(t)
	tell(t, r, nil, inside("a", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer }))
	tell(t, r, nil, inside("b"))
	for _, value := range []string{"x", "y", "z"} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"team": value}}}
		r.client = newFake(ns)
		r.record.namespace(nil, ns)
		f, err := r.Facts(t.Context())
		if err != nil || len(f.Services) != 1 || f.Services[0].NamespaceLabels["team"] != value || f.Services[0].Ports[0].Port != 80 {
			t.Errorf("team %s: %+v, %v", value, f.Services, err)
		}
		if got, want := servedBy(t, r), "*a: [10.96.0.1] 80 []; b: [10.96.0.1] 80 []"; got != want {
			t.Errorf("team %s: served %q, want %q", value, got, want)
		}
	}
}

func TestS9ChangesOfAService(t *testing.T) {
	port := func(p int32) func(*corev1.Service) { return func(s *corev1.Service) { s.Spec.Ports[0].Port = p } }
	balanced := inside("a", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
	r := fullReader(t)
	var before *corev1.Service
	for _, step := range []struct {
		now  *corev1.Service
		want string
	}{
		{inside("a"), "a: [10.96.0.1] 80 []"}, {inside("a", port(81)), "a: [10.96.0.1] 81 []"}, {balanced, "*a: [10.96.0.1] 80 []"},
		{inside("a", func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeExternalName
			s.Spec.ClusterIP = ""
			s.Spec.ClusterIPs = nil
		}), ""},
		{balanced, "*a: [10.96.0.1] 80 []"}, {inside("a"), "a: [10.96.0.1] 80 []"}, {nil, ""}, {inside("a"), "a: [10.96.0.1] 80 []"},
	} {
		tell(t, r, before, step.now)
		if got := servedBy(t, r); got != step.want {
			t.Errorf("served: %q, want %q", got, step.want)
		}
		before = step.now
	}
}

// TestFactsAreNeverWrittenTo: who was given facts may go on reading them.
func TestFactsAreNeverWrittenTo(t *testing.T) {
	r := fullReader(t)
	for i := range 20 {
		tell(t, r, nil, inside(fmt.Sprintf("s%02d", i)))
	}
	before, err := r.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	others, endpoints := slices.Clone(before.Others), len(before.Endpoints)
	same, err := r.Facts(t.Context())
	if err != nil || &same.Others[0] != &before.Others[0] {
		t.Errorf("without an event the facts are other ones: %v", err)
	}
	tell(t, r, inside("s07"), nil)
	tell(t, r, inside("s08"), inside("s08", func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }))
	tell(t, r, nil, inside("s07a"))
	after, err := r.Facts(t.Context())
	if err != nil || len(after.Others) != 20 || after.Others[7].Key.Name != "s07a" || after.Others[8].Ports[0].Port != 81 {
		t.Errorf("after three events: %d Services, %v, %v", len(after.Others), after.Others[7:9], err)
	}
	for i, s := range before.Others {
		if s.Key != others[i].Key || s.Ports[0].Port != 80 || len(before.Endpoints) != endpoints {
			t.Errorf("the facts of before have changed: %v", s)
		}
	}
}

func TestS17HintsAreRead(t *testing.T) {
	e := pod("10.0.0.1", "n1", "r")
	e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}, {Name: "b"}}, ForNodes: []discoveryv1.ForNode{{Name: "n1"}}}
	s := slice(80, e, pod("10.0.0.2", "n2", "r"))
	got := kept(t, Options{}, s).(*keptSlice).endpoints
	if got[0].ForZones != "a,b" || got[0].ForNodes != "n1" || got[1].ForZones != "" || got[1].ForNodes != "" {
		t.Errorf("hints %+v", got)
	}
}

// TestReach: node ports, external IPs and the rest that only the datapath looks at.
func TestReach(t *testing.T) {
	r := fullReader(t)
	local := corev1.ServiceInternalTrafficPolicyLocal
	tell(t, r, nil, inside("a", annotated("fairlead.dev/scheduler", "wlc", "fairlead.dev/forwarding", "dsr"), func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.ClusterIPs, s.Spec.ExternalIPs = []string{"10.96.0.1", "fd96::1"}, []string{"203.0.113.7"}
		s.Spec.Ports[0].NodePort, s.Spec.InternalTrafficPolicy = 30080, &local
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}))
	f, err := r.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := f.Others[0]
	got := fmt.Sprintf("%v %v %v %v %v %v %v", s.ClusterIPs, s.ExternalIPs, s.Ports, s.InternalTrafficPolicy, s.SessionAffinity, s.Scheduler, s.Forwarding)
	if want := "[10.96.0.1 fd96::1] [203.0.113.7] [{http TCP 80 30080}] Local 3h0m0s wlc dsr"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestARecordSaysWhatListsSay replays random events in mode external and compares the record with a reader that keeps nothing. As long as the
// version is the same nothing may change but endpoints.
func TestARecordSaysWhatListsSay(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	r := watching(t, Options{Namespace: home})
	have := map[string]client.Object{}
	var before Facts
	versions := map[uint64]bool{}
	for step := range 300 {
		var now client.Object
		name, version := fmt.Sprint("s", dice.IntN(4)), fmt.Sprint(step)
		isSlice, isNode := dice.IntN(2) == 0, dice.IntN(8) == 0
		switch {
		case isNode:
			name = "n1"
			now = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"step": version}}}
		case isSlice:
			s := slice(80+dice.Int32N(3), pod(fmt.Sprint("10.0.0.", 1+dice.IntN(9)), "n1", "r"))
			s.Name, s.ResourceVersion, s.Labels[discoveryv1.LabelServiceName] = fmt.Sprint("slice", dice.IntN(6)), version, name
			now, name = s, s.Name
		default:
			now = web(func(s *corev1.Service) {
				s.Name, s.ResourceVersion, s.Spec.Ports[0].Port = name, version, 80+dice.Int32N(3)
				if dice.IntN(3) == 0 {
					s.Spec.LoadBalancerClass = ptr("cloud")
				}
			})
		}
		old := have[name]
		if have[name] = now; dice.IntN(4) == 0 {
			now = nil
			delete(have, name)
		}
		r.client = newFake(slices.Collect(maps.Values(have))...)
		switch {
		case isNode:
			r.record.noting(nodeChanged)(seen(old), seen(now))
		case isSlice:
			r.record.slice(kept(t, r.opts, seen(old)), kept(t, r.opts, seen(now)))
		default:
			r.record.service(kept(t, r.opts, seen(old)), kept(t, r.opts, seen(now)))
		}
		got, err := r.Facts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want, err := NewReader(r.client, r.opts).Facts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.Version == before.Version {
			before.Endpoints = got.Endpoints
			if !reflect.DeepEqual(got, before) {
				t.Fatalf("step %d: more than endpoints changed with version %d:\n%+v\n%+v", step, got.Version, before, got)
			}
		}
		before, want.Version, versions[got.Version] = got, got.Version, true
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmpopts.EquateEmpty(),
			cmpopts.IgnoreFields(lb.Service{}, "NamespaceLabels")); diff != "" {
			t.Fatalf("step %d: -lists +record:\n%s", step, diff)
		}
	}
	if n := len(versions); n < 50 || n > 250 {
		t.Errorf("%d versions in 300 steps, of which less than half were about endpoints", n)
	}
}

// TestEveryKindButSlicesIsAVersion: what the facts take over from the last answer must be read again after each change.
func TestEveryKindButSlicesIsAVersion(t *testing.T) {
	r := fullReader(t)
	for object, matters := range r.watched() {
		now, version := any(object), r.record.version
		if _, ok := object.(*corev1.Service); ok {
			now = kept(t, r.opts, inside("a"))
		}
		if _, ok := object.(*discoveryv1.EndpointSlice); ok {
			continue
		}
		if !matters(nil, now) || r.record.version != version+1 {
			t.Errorf("a new %T leads from version %d to %d", object, version, r.record.version)
		}
	}
}

// seen is o as an informer hands it over: nothing, and not a nil pointer, where there is none.
func seen(o client.Object) any {
	if o == nil {
		return nil
	}
	return o
}
