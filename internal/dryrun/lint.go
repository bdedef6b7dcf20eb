package dryrun

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
	for _, p := range objects {
		l.title = p.title
		l.admit(before, p.object)
		l.object(p.object)
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

// admit asks what the webhook would say if the object were applied after those before it.
func (l *linter) admit(before kube.Objects, o client.Object) {
	r := admission.Request{Operation: admission.Create}
	var known kube.Objects
	switch o := o.(type) {
	case *v1beta1.IPAddressPool:
		r.NewPool, known = asked(o), before
		var old v1beta1.IPAddressPool
		if err := before.Get(context.Background(), client.ObjectKeyFromObject(o), &old); err == nil {
			r.Operation, r.OldPool = admission.Update, asked(&old)
		}
	case *v1beta1.L2Advertisement:
		r.NewAdvertisement, known = o, l.world.Objects // a pool that comes later is no mistake
	default:
		return
	}
	facts, err := kube.AdmissionFacts(context.Background(), known, l.world.Options)
	if err != nil {
		panic("dryrun: reading objects in memory: " + err.Error())
	}
	d := admission.Decide(r, facts)
	for _, refusal := range d.Refusals {
		l.add(Error, refusal.Reason, refusal.Err.Field, "%s", strings.TrimPrefix(refusal.Err.Error(), refusal.Err.Field+": "))
	}
	for _, w := range d.Warnings {
		l.add(Warning, w.Reason, "", "%s", w.Message)
	}
}

func asked(o *v1beta1.IPAddressPool) *admission.Pool {
	parsed, _ := kube.Pool(o)
	return &admission.Pool{Object: o, Parsed: parsed}
}

// object judges what the webhook does not look at.
func (l *linter) object(o client.Object) {
	switch o := o.(type) {
	case *v1beta1.L2Advertisement:
		l.selected(o, "L2Advertisement")
	case *v1beta1.BGPAdvertisement:
		l.validate(o)
		l.selected(o, "BGPAdvertisement")
		l.named(lb.UnknownPool, field.NewPath("spec", "ipAddressPools"), o.Spec.IPAddressPools, l.poolNames(), "IPAddressPool")
		l.named(lb.InvalidSpec, field.NewPath("spec", "peers"), o.Spec.Peers, l.peerNames(), "BGPPeer")
		var communities v1beta1.CommunityList
		l.list(&communities)
		aliases, _ := kube.Aliases(&communities)
		if len(o.Validate()) == 0 {
			_, r := kube.BGPAdvertisement(o, aliases)
			l.refusal(Warning, r)
		}
	case *v1beta1.BGPPeer:
		l.validate(o)
		if len(o.Validate()) == 0 {
			_, r := kube.BGPPeer(o, l.profiles())
			l.refusal(Warning, r)
		}
	case *v1beta1.BFDProfile:
		l.validate(o)
	case *v1beta1.Community:
		l.validate(o)
	}
}

// list reads the objects of a kind in Fairlead's namespace.
func (l *linter) list(into client.ObjectList) {
	if err := l.world.Objects.List(context.Background(), into, client.InNamespace(l.world.Options.Namespace)); err != nil {
		panic("dryrun: reading objects in memory: " + err.Error())
	}
}

func (l *linter) validate(o interface {
	client.Object
	Validate() field.ErrorList
}) {
	for _, err := range o.Validate() {
		l.add(Error, lb.InvalidSpec, err.Field, "%s", strings.TrimPrefix(err.Error(), err.Field+": "))
	}
	if want := l.world.Options.Namespace; o.GetNamespace() != want {
		l.add(Warning, lb.WrongNamespace, "metadata.namespace", "is %q, but Fairlead reads only %q: the object has no effect; create it there", o.GetNamespace(), want)
	}
}

// named warns of names that nothing has.
func (l *linter) named(reason lb.Reason, at *field.Path, names, known []string, kind string) {
	for i, name := range names {
		if !slices.Contains(known, name) {
			l.add(Warning, reason, at.Index(i).String(), "is %q, but there is no such %s; create it or correct the name", name, kind)
		}
	}
}

func (l *linter) poolNames() (out []string) {
	for _, p := range l.facts.Pools {
		out = append(out, p.Name)
	}
	return out
}

func (l *linter) peerNames() (out []string) {
	for _, p := range l.facts.BGPPeers {
		out = append(out, p.Name)
	}
	return out
}

func (l *linter) profiles() map[string]lb.BFDProfile {
	var list v1beta1.BFDProfileList
	l.list(&list)
	out := map[string]lb.BFDProfile{}
	for i := range list.Items {
		out[list.Items[i].Name], _ = kube.BFDProfile(&list.Items[i])
	}
	return out
}

// selected warns of an advertisement whose nodeSelectors match no node of the cluster.
func (l *linter) selected(o client.Object, kind string) {
	var selectors []lb.Selector
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
