package kube

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

const home = "fairlead-system"

// newFake returns an API server in memory that holds the objects.
func newFake(objects ...client.Object) client.Client {
	return fake.NewClientBuilder().WithScheme(Scheme()).WithObjects(objects...).
		WithStatusSubresource(&corev1.Service{}, &v1beta1.IPAddressPool{}, &v1beta1.L2Advertisement{},
			&v1beta1.BGPPeer{}, &v1beta1.BGPAdvertisement{}, &v1beta1.BFDProfile{}, &v1beta1.Community{}).
		WithIndex(&corev1.Service{}, typeField, func(o client.Object) []string { return []string{string(o.(*corev1.Service).Spec.Type)} }).
		Build()
}

func newTestCluster(objects ...client.Object) (*Cluster, client.Client, *events.FakeRecorder) {
	c, recorder := newFake(objects...), events.NewFakeRecorder(100)
	opts := Options{Namespace: home, IPMode: lb.ModeProxy}
	return &Cluster{cached: NewReader(c, opts), live: c, writer: c, lease: leading(time.Hour), events: recorder, opts: opts}, c, recorder
}

// write has the cluster write what was decided on the newest version of the Service that it knows.
func write(t *testing.T, c *Cluster, key lb.ServiceKey, v Verdict) (bool, error) {
	t.Helper()
	w, err := c.Service(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return c.WriteService(t.Context(), key, w.Version, v)
}

func recorded(r *events.FakeRecorder) []string {
	var out []string
	for {
		select {
		case e := <-r.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

func allocated(pool string, texts ...string) Verdict {
	v := Verdict{Ours: true, Pool: pool}
	for _, text := range texts {
		v.Addrs = append(v.Addrs, addr(text))
	}
	return v
}

func refused(v Verdict, reason lb.Reason, message string) Verdict {
	v.Refusal = lb.Refusal{Reason: reason, Message: message}
	return v
}

func released(v Verdict) Verdict {
	v.Released = true
	return v
}

func TestServicePatch(t *testing.T) {
	condition := func(status metav1.ConditionStatus, reason, message string) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Status.Conditions = []metav1.Condition{{Type: "other", Status: "True"}, {Type: ConditionAllocated, Status: status, Reason: reason, Message: message, ObservedGeneration: s.Generation, LastTransitionTime: metav1.Now()}}
		}
	}
	ip := func(text string, mode corev1.LoadBalancerIPMode) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: text, IPMode: &mode})
		}
	}
	done := []func(*corev1.Service){annotated("fairlead.dev/ip-allocated-from-pool", "p"), ip("192.0.2.1", "Proxy"), condition("True", "Allocated", `192.0.2.1 from pool "p"`)}
	and := func(more ...func(*corev1.Service)) *corev1.Service { return web(append(done[:3:3], more...)...) }
	const (
		version    = `"metadata":{"resourceVersion":"7"}`
		ourPool    = `"metadata":{"annotations":{"fairlead.dev/ip-allocated-from-pool":"p"},"resourceVersion":"7"}`
		noPool     = `"metadata":{"annotations":{"fairlead.dev/ip-allocated-from-pool":null},"resourceVersion":"7"}`
		allocated1 = `"conditions":[{"type":"fairlead.dev/Allocated","status":"True","lastTransitionTime":"T","reason":"Allocated","message":"192.0.2.1 from pool \"p\""}]`
	)
	for name, c := range map[string]struct {
		in      *corev1.Service
		verdict Verdict
		want    string
	}{
		"first":     {web(), allocated("p", "192.0.2.1"), `{` + ourPool + `,"status":{` + allocated1 + `,"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"Proxy"}]}}}`},
		"unchanged": {and(), allocated("p", "192.0.2.1"), `null`},
		"mode":      {web(done[0], ip("192.0.2.1", "VIP"), done[2]), allocated("p", "192.0.2.1"), `{` + version + `,"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"Proxy"}]}}}`},
		"hostname beside": {and(func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{Hostname: "h"})
		}), allocated("p", "192.0.2.1"), `{` + version + `,"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"Proxy"}]}}}`},
		"second family":     {and(), allocated("p", "192.0.2.1", "2001:db8::1"), `{` + version + `,"status":{"conditions":[{"type":"fairlead.dev/Allocated","status":"True","lastTransitionTime":"T","reason":"Allocated","message":"192.0.2.1 and 2001:db8::1 from pool \"p\""}],"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"Proxy"},{"ip":"2001:db8::1","ipMode":"Proxy"}]}}}`},
		"refused":           {web(), refused(Verdict{Ours: true}, lb.PoolExhausted, "full"), `{` + version + `,"status":{"conditions":[{"type":"fairlead.dev/Allocated","status":"False","lastTransitionTime":"T","reason":"PoolExhausted","message":"full"}]}}`},
		"kept but refused":  {and(), refused(allocated("p", "192.0.2.1"), lb.UnknownPool, "no q"), `{` + version + `,"status":{"conditions":[{"type":"fairlead.dev/Allocated","status":"False","lastTransitionTime":"T","reason":"UnknownPool","message":"no q"}]}}`},
		"outside":           {and(), refused(allocated("p", "192.0.2.1"), lb.AddressOutsidePools, "stays"), `{` + version + `,"status":{"conditions":[{"type":"fairlead.dev/Allocated","status":"True","lastTransitionTime":"T","reason":"AddressOutsidePools","message":"stays"}]}}`},
		"lost":              {and(), refused(Verdict{Ours: true}, lb.SharingConflict, "port"), `{` + noPool + `,"status":{"conditions":[{"type":"fairlead.dev/Allocated","status":"False","lastTransitionTime":"T","reason":"SharingConflict","message":"port"}],"loadBalancer":{"ingress":null}}}`},
		"not ours any more": {and(), Verdict{}, `{` + noPool + `,"status":{"conditions":[{"$patch":"delete","type":"fairlead.dev/Allocated"}],"loadBalancer":{"ingress":null}}}`},
		"never ours":        {web(), Verdict{}, `null`},
		"released":          {and(annotated("fairlead.dev/release", "true")), released(allocated("p", "192.0.2.1")), `{"metadata":{"annotations":{"fairlead.dev/release":null},"resourceVersion":"7"},"status":{}}`},
		"not released yet":  {and(annotated("fairlead.dev/release", "true")), allocated("p", "192.0.2.1"), `null`},
	} {
		t.Run(name, func(t *testing.T) {
			patch := servicePatch(c.in, c.verdict, lb.ModeProxy)
			got, err := json.Marshal(patch)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, maskTimes(string(got))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// maskTimes replaces the value of lastTransitionTime.
func maskTimes(text string) string {
	const key = `"lastTransitionTime":"`
	before, rest, ok := strings.Cut(text, key)
	if !ok {
		return text
	}
	_, after, _ := strings.Cut(rest, `"`)
	return before + key + `T"` + after
}

func TestWriteService(t *testing.T) {
	ctx := t.Context()
	cluster, api, recorder := newTestCluster(web())
	key := lb.ServiceKey{Namespace: "default", Name: "web"}
	check := func(v Verdict, wantWrote bool, wantEvents ...string) *corev1.Service {
		t.Helper()
		wrote, err := write(t, cluster, key, v)
		if err != nil || wrote != wantWrote {
			t.Fatalf("wrote %v, %v; want %v", wrote, err, wantWrote)
		}
		if diff := cmp.Diff(wantEvents, recorded(recorder)); diff != "" {
			t.Errorf("events: -want +got:\n%s", diff)
		}
		var s corev1.Service
		if err := api.Get(ctx, objectKey(key), &s); err != nil {
			t.Fatal(err)
		}
		return &s
	}
	waiting := refused(Verdict{Ours: true}, lb.PoolExhausted, "full")
	check(waiting, true, "Warning PoolExhausted full")
	check(waiting, false)
	s := check(allocated("p", "192.0.2.1"), true, `Normal Allocated 192.0.2.1 from pool "p"`)
	if got := ingress(s); len(got) != 1 || got[0] != (lb.Ingress{Addr: addr("192.0.2.1"), Mode: lb.ModeProxy}) {
		t.Errorf("ingress %v", got)
	}
	if !meta.IsStatusConditionTrue(s.Status.Conditions, ConditionAllocated) {
		t.Errorf("conditions %v", s.Status.Conditions)
	}
	check(released(allocated("q", "192.0.2.2")), true, `Normal Released 192.0.2.1 given up for annotation fairlead.dev/release; now 192.0.2.2 from pool "q"`)
	s = check(Verdict{}, true, "Normal Released the Service is not of our type and class any more; its addresses are free")
	if len(s.Status.Conditions) > 0 || len(ingress(s)) > 0 {
		t.Errorf("traces are left: %+v", s.Status)
	}
	if wrote, err := write(t, cluster, lb.ServiceKey{Namespace: "default", Name: "gone"}, waiting); wrote || err != nil {
		t.Errorf("a Service that is gone: %v, %v", wrote, err)
	}
}

func TestClusterReads(t *testing.T) {
	at := func(name string, minute int, edits ...func(*corev1.Service)) *corev1.Service {
		s := web(edits...)
		s.Name, s.UID, s.CreationTimestamp = name, "", metav1.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)
		return s
	}
	cluster, _, _ := newTestCluster(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"team": "x"}}},
		at("young", 9), at("old-b", 1), at("old-a", 1),
		at("other", 0, func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr("other") }),
		at("plain", 0, func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeClusterIP
			s.Status.Conditions = []metav1.Condition{{Type: ConditionAllocated}}
		}),
	)
	existing, err := cluster.Existing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, w := range existing {
		names = append(names, w.Service.Key.Name)
		if w.State != Ours || w.Service.NamespaceLabels["team"] != "x" {
			t.Errorf("%+v", w)
		}
	}
	if diff := cmp.Diff([]string{"old-a", "old-b", "young"}, names); diff != "" {
		t.Errorf("existing: -want +got:\n%s", diff)
	}
	for name, want := range map[string]Wish{"plain": {State: Foreign, Marked: true}, "other": {State: Foreign}, "none": {State: Gone}} {
		w, err := cluster.Service(t.Context(), lb.ServiceKey{Namespace: "default", Name: name})
		if err != nil || w.State != want.State || w.Marked != want.Marked {
			t.Errorf("%s: %+v, %v", name, w, err)
		}
	}
	if w, err := cluster.Service(t.Context(), lb.ServiceKey{Namespace: "default", Name: "young"}); err != nil || w.State != Ours || w.Service.NamespaceLabels["team"] != "x" {
		t.Errorf("young: %+v, %v", w, err)
	}
}

func TestFacts(t *testing.T) {
	foreign := slice(80, pod("10.0.0.9", "", "r"))
	foreign.Name, foreign.Labels = "other", map[string]string{discoveryv1.LabelServiceName: "other"}
	speaker := func(name, ip string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: name, Labels: map[string]string{SpeakerLabel: SpeakerValue}},
			Spec: corev1.PodSpec{NodeName: "on-" + name}, Status: corev1.PodStatus{PodIP: ip, Phase: phase}}
	}
	c := newFake(
		web(), web(func(s *corev1.Service) { s.Name, s.Spec.LoadBalancerClass = "other", ptr("other") }), web(func(s *corev1.Service) { s.Name = "lonely" }),
		slice(8080, pod("10.0.0.1", "n1", "r")), foreign,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"team": "x"}}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}},
		testPool(home, "b", "192.0.2.0/28"), testPool(home, "a", "198.51.100.0/28"), testPool("default", "astray", "203.0.113.0/24"),
		&v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "l2"}},
		speaker("s1", "192.0.2.12", corev1.PodRunning), speaker("s2", "192.0.2.11", corev1.PodPending), speaker("s3", "", corev1.PodPending), speaker("s4", "192.0.2.13", corev1.PodFailed),
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "controller"}, Status: corev1.PodStatus{PodIP: "10.0.0.7"}},
	)
	r := NewReader(c, Options{Namespace: home})
	facts, err := r.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, s := range facts.Services {
		got["service "+s.Key.Name] = s.NamespaceLabels["team"]
	}
	for key, e := range facts.Endpoints.All() {
		got["endpoints of "+key.Name] = len(e)
	}
	for name := range facts.Nodes {
		got["node "+string(name)] = true
	}
	for i, p := range facts.Pools {
		got["pool "+p.Name] = i
	}
	for _, a := range facts.L2 {
		got["l2 "+a.Name] = true
	}
	for node, addr := range facts.Speakers {
		got["speaker on "+string(node)] = addr.String()
	}
	want := map[string]any{
		"speaker on on-s1": "192.0.2.12", "speaker on on-s2": "192.0.2.11", "speaker on on-s3": "invalid IP",
		"service lonely": "x", "service web": "x", "endpoints of web": 1, "node n1": true, "pool a": 0, "pool b": 1, "l2 l2": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	peers, err := r.SpeakerPeers(t.Context())
	if diff := cmp.Diff([]netip.Addr{addr("192.0.2.11"), addr("192.0.2.12")}, peers, compareAddrs); diff != "" || err != nil {
		t.Errorf("peers: %v; -want +got:\n%s", err, diff)
	}
}
