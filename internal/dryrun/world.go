package dryrun

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/manifest"
	"github.com/fairlead-lb/fairlead/lb"
)

// World is what there is: the objects of a cluster, or none, with some manifests over them.
type World struct {
	Objects kube.Objects
	Options kube.Options
	Rest    time.Duration // how long a freed address rests where its pool does not say
}

// Severity ranks findings.
type Severity string

// An Error is refused by the API server or without effect, a Warning is probably not what was meant.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Finding is something that is wrong.
type Finding struct {
	Object   string    `json:"object"` // "IPAddressPool fairlead-system/default (pools.yaml, document 1)"
	Severity Severity  `json:"severity"`
	Reason   lb.Reason `json:"reason"`
	Field    string    `json:"field,omitempty"` // "spec.addresses[0]"; "" where the message says it
	Message  string    `json:"message"`
}

// String returns the finding as one line.
func (f Finding) String() string {
	at := f.Field
	if at != "" {
		at += " "
	}
	return fmt.Sprintf("%s: %s: %s: %s%s", f.Severity, f.Object, f.Reason, at, f.Message)
}

// parsed is a manifest and what it is as a type.
type parsed struct {
	title  string
	object client.Object
}

// Parse returns the manifests as typed objects, as far as they are of a kind that matters here, and what cannot be read in
// them. A Service without a namespace is put into the given one.
func (w World) Parse(in []manifest.Object, namespace string) ([]client.Object, []Finding) {
	var out []client.Object
	all, findings := w.parse(in, namespace)
	for _, p := range all {
		out = append(out, p.object)
	}
	return out, findings
}

func (w World) parse(in []manifest.Object, namespace string) (out []parsed, findings []Finding) {
	scheme := kube.Scheme()
	seen := map[string]string{}
	for _, o := range in {
		title := o.Title()
		if o.Source != "" {
			title += " (" + o.Source + ")"
		}
		if r := foreign(o); r != "" {
			findings = append(findings, Finding{title, Error, lb.InvalidSpec, "apiVersion", r})
			continue
		}
		if !matters(o.GroupVersionKind()) {
			continue
		}
		empty, err := scheme.New(o.GroupVersionKind())
		if err != nil {
			findings = append(findings, Finding{title, Error, lb.InvalidSpec, "apiVersion", fmt.Sprintf("is %q, with the kind %q unknown to Fairlead; its version is %s", o.GetAPIVersion(), o.GetKind(), v1beta1.Version)})
			continue
		}
		if wrong := o.Decode(empty); len(wrong) > 0 {
			for _, e := range wrong {
				findings = append(findings, Finding{title, Error, lb.InvalidSpec, e.Field, e.Message + "; correct or delete it"})
			}
			continue
		}
		object := empty.(client.Object)
		if object.GetNamespace() == "" && namespaced(object) {
			object.SetNamespace(namespace)
		}
		id := manifest.Title(o.GroupVersionKind().GroupKind().String(), object.GetNamespace(), object.GetName())
		if first, twice := seen[id]; twice {
			findings = append(findings, Finding{title, Error, lb.InvalidSpec, "metadata.name", "is that of " + first + " too: the later one replaces the earlier; rename or delete one"})
		}
		seen[id] = title
		out = append(out, parsed{title, w.complete(object)})
	}
	return out, findings
}

// foreign says what to do about an object of MetalLB's.
func foreign(o manifest.Object) string {
	if o.Group() != "metallb.io" {
		return ""
	}
	return fmt.Sprintf("is %q, which is MetalLB's: Fairlead does not read it; `kubectl fairlead migrate metallb` turns it into Fairlead's", o.GetAPIVersion())
}

func matters(gvk schema.GroupVersionKind) bool {
	return gvk.Group == v1beta1.Group || gvk.Group == "" && slices.Contains([]string{"Service", "Namespace", "Node", "Secret"}, gvk.Kind) ||
		gvk.Group == "discovery.k8s.io" && gvk.Kind == "EndpointSlice" || gvk.Group == "networking.k8s.io" && gvk.Kind == "ServiceCIDR"
}

func namespaced(o client.Object) bool {
	switch o.(type) {
	case *corev1.Node, *corev1.Namespace:
		return false
	}
	return o.GetObjectKind().GroupVersionKind().Kind != "ServiceCIDR"
}

// complete gives a Service of a manifest what the API server would give it: the status and the families that it has already,
// or those of the cluster, or IPv4.
func (w World) complete(o client.Object) client.Object {
	s, ok := o.(*corev1.Service)
	if !ok {
		return o
	}
	var old corev1.Service
	if err := w.Objects.Get(context.Background(), client.ObjectKeyFromObject(s), &old); err == nil {
		s.UID, s.Status = old.UID, old.Status
		if from, ok := old.Annotations[kube.AnnotationPrefix+kube.AnnotationFromPool]; ok {
			if s.Annotations == nil {
				s.Annotations = map[string]string{}
			}
			s.Annotations[kube.AnnotationPrefix+kube.AnnotationFromPool] = from
		}
		if len(s.Spec.IPFamilies) == 0 {
			s.Spec.IPFamilies = old.Spec.IPFamilies
		}
	}
	if len(s.Spec.IPFamilies) > 0 {
		return s
	}
	s.Spec.IPFamilies = []corev1.IPFamily{w.primary()}
	if p := s.Spec.IPFamilyPolicy; p != nil && *p != corev1.IPFamilyPolicySingleStack {
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, map[corev1.IPFamily]corev1.IPFamily{corev1.IPv4Protocol: corev1.IPv6Protocol, corev1.IPv6Protocol: corev1.IPv4Protocol}[w.primary()])
	}
	return s
}

// primary is the family that the cluster gives Services which do not say.
func (w World) primary() corev1.IPFamily {
	var kubernetes corev1.Service
	err := w.Objects.Get(context.Background(), client.ObjectKey{Namespace: "default", Name: "kubernetes"}, &kubernetes)
	if err == nil && len(kubernetes.Spec.IPFamilies) > 0 {
		return kubernetes.Spec.IPFamilies[0]
	}
	return corev1.IPv4Protocol
}
