package dryrun

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/admission"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/manifest"
	"github.com/fairlead-lb/fairlead/lb"
)

// linter is one run of Lint.
type linter struct {
	world    World // with the manifests
	facts    kube.Facts
	findings []Finding
	title    string
}

// Lint judges manifests, in the order in which they are given, over what w has. It does not fail: what cannot be read is a
// finding.
func (w World) Lint(in []manifest.Object, namespace string, now time.Time) []Finding {
	objects, findings := w.parse(in, namespace)
	l := &linter{world: w, findings: findings}
	for _, p := range objects {
		l.world.Objects = l.world.Objects.With(p.object)
	}
	l.facts = l.world.facts()
	before := w.Objects
	for i, p := range objects {
		l.title = p.title
		l.admit(before, p.object, objects[i+1:])
		l.selected(p.object)
		before = before.With(p.object)
	}
	l.services(objects, now)
	l.pools(objects)
	return l.findings
}

func (l *linter) add(s Severity, reason lb.Reason, at, format string, args ...any) {
	l.findings = append(l.findings, Finding{l.title, s, reason, at, fmt.Sprintf(format, args...)})
}

func (l *linter) refusal(s Severity, r lb.Refusal) {
	if !r.OK() {
		l.add(s, r.Reason, "", "%s", r.Message)
	}
}

// admit asks what the webhook would say if the object were applied. It is held against those of its kind that come before it,
// so that of two which contradict each other the second is refused, and may name what comes later.
func (l *linter) admit(before kube.Objects, o client.Object, later []parsed) {
	request := admissionv1.AdmissionRequest{Operation: admissionv1.Create, Kind: metav1.GroupVersionKind(o.GetObjectKind().GroupVersionKind()),
		Namespace: o.GetNamespace(), Name: o.GetName(), Object: runtime.RawExtension{Raw: encoded(o)}}
	old := reflect.New(reflect.TypeOf(o).Elem()).Interface().(client.Object)
	if err := before.Get(context.Background(), client.ObjectKeyFromObject(o), old); err == nil {
		request.Operation, request.OldObject = admissionv1.Update, runtime.RawExtension{Raw: encoded(old)}
	}
	known := before
	for _, p := range later {
		if reflect.TypeOf(p.object) != reflect.TypeOf(o) {
			known = known.With(p.object)
		}
	}
	facts, err := kube.AdmissionFacts(context.Background(), known, l.world.Options)
	if err != nil {
		panic("dryrun: reading objects in memory: " + err.Error())
	}
	r, err := kube.AdmissionRequest(request)
	if err != nil {
		panic("dryrun: reading an object in memory: " + err.Error())
	}
	d := admission.Decide(r, facts)
	for _, refusal := range d.Refusals {
		l.add(Error, refusal.Reason, refusal.Err.Field, "%s", strings.TrimPrefix(refusal.Err.Error(), refusal.Err.Field+": "))
	}
	for _, w := range d.Warnings {
		l.add(Warning, w.Reason, "", "%s", w.Message)
	}
}

// encoded is the object as the API server would send it.
func encoded(o client.Object) []byte {
	raw, err := json.Marshal(o)
	if err != nil {
		panic("dryrun: encoding an object in memory: " + err.Error())
	}
	return raw
}

// selected warns of an advertisement whose nodeSelectors match no node of the cluster.
func (l *linter) selected(o client.Object) {
	var selectors []lb.Selector
	kind := o.GetObjectKind().GroupVersionKind().Kind
	switch o := o.(type) {
	case *v1beta1.L2Advertisement:
		ad, _ := kube.L2Advertisement(o)
		selectors = ad.NodeSelectors
	case *v1beta1.BGPAdvertisement:
		if len(o.Validate()) > 0 {
			return
		}
		ad, _ := kube.BGPAdvertisement(o, nil)
		selectors = ad.NodeSelectors
	}
	matches := len(selectors) == 0 || len(l.facts.Nodes) == 0
	for n := range maps.Values(l.facts.Nodes) {
		matches = matches || lb.MatchesAny(selectors, n.Labels)
	}
	if !matches {
		l.add(Warning, lb.NodeNotSelected, "spec.nodeSelectors", "match no Node: no node announces by this %s; correct them, or label a Node", kind)
	}
}

// services says which Services of the manifests would get no address, and which no advertisement covers.
func (l *linter) services(objects []parsed, now time.Time) {
	outcomes := l.world.outcomes(l.facts, l.world.allocator(l.facts, now), now)
	for _, p := range objects {
		s, ok := p.object.(*corev1.Service)
		if !ok || !l.world.Options.Ours(s) {
			continue
		}
		l.title = p.title
		key := lb.ServiceKey{Namespace: s.Namespace, Name: s.Name}
		if _, r := kube.Service(s, nil); !r.OK() {
			l.refusal(Error, r)
			continue
		}
		o := outcomes[key]
		l.refusal(Warning, o.Refusal)
		if len(o.Addrs) > 0 && len(o.Advertised) == 0 {
			l.add(Warning, lb.NotAdvertised, "", "would have %s, which no advertisement covers: nobody announces it; add an L2Advertisement or a BGPAdvertisement for IPAddressPool %q", addresses(o.Addrs), o.Pool)
		}
	}
}

// pools warns of pools of the manifests whose addresses no advertisement covers, whatever the Service.
func (l *linter) pools(objects []parsed) {
	for _, p := range objects {
		o, ok := p.object.(*v1beta1.IPAddressPool)
		if !ok || o.Namespace != l.world.Options.Namespace {
			continue
		}
		parsed, _ := kube.Pool(o)
		covered := slices.ContainsFunc(l.facts.L2, func(a lb.L2Advertisement) bool { a.ServiceSelectors = nil; return a.Covers(parsed, lb.Service{}) }) ||
			slices.ContainsFunc(l.facts.BGP, func(a lb.BGPAdvertisement) bool { a.ServiceSelectors = nil; return a.Covers(parsed, lb.Service{}) })
		if l.title = p.title; !covered {
			l.add(Warning, lb.NotAdvertised, "", "no advertisement names IPAddressPool %q or selects its labels: nobody announces its addresses; add an L2Advertisement or a BGPAdvertisement", o.Name)
		}
	}
}
