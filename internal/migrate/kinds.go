package migrate

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/manifest"
)

// kind is a row of the table of MetalLB's kinds.
type kind struct {
	versions []string
	convert  func(*migration, manifest.Object)
	ignore   string // why it is not converted, where nothing is lost by that
}

// kinds returns the table. The kinds that are ours too have the same fields in both groups.
func kinds() map[string]kind {
	const status = "a report of MetalLB's; Fairlead reports in the conditions of its objects and in SpeakerStatus"
	v1 := []string{"v1beta1"}
	return map[string]kind{
		"IPAddressPool":      {versions: v1, convert: same(func() Object { return &v1beta1.IPAddressPool{} }, nil)},
		"L2Advertisement":    {versions: v1, convert: same(func() Object { return &v1beta1.L2Advertisement{} }, nil)},
		"BGPAdvertisement":   {versions: v1, convert: same(func() Object { return &v1beta1.BGPAdvertisement{} }, nil)},
		"BGPPeer":            {versions: []string{"v1beta1", "v1beta2"}, convert: same(func() Object { return &v1beta1.BGPPeer{} }, (*migration).peer)},
		"BFDProfile":         {versions: v1, convert: same(func() Object { return &v1beta1.BFDProfile{} }, (*migration).profile)},
		"Community":          {versions: v1, convert: same(func() Object { return &v1beta1.Community{} }, nil)},
		"AddressPool":        {versions: []string{"v1alpha1", "v1beta1"}, convert: (*migration).addressPool},
		"ServiceL2Status":    {versions: v1, ignore: status},
		"ServiceBGPStatus":   {versions: v1, ignore: status},
		"ConfigurationState": {versions: v1, ignore: status},
		"MetalLB":            {versions: v1, ignore: "it tells MetalLB's operator how to install MetalLB; what it says of nodes and resources is in the values of Fairlead's chart"},
	}
}

// same converts a kind that is ours too: its specification as it is, then what adjust has to change.
func same(empty func() Object, adjust func(*migration, manifest.Object, Object)) func(*migration, manifest.Object) {
	return func(m *migration, o manifest.Object) {
		out := empty()
		before := len(m.result.Refusals())
		for _, name := range slices.Sorted(maps.Keys(o.Object)) {
			if !slices.Contains([]string{"apiVersion", "kind", "metadata", "spec", "status"}, name) {
				m.note(Refused, name, "is unknown; delete it, or move what it says into spec")
			}
		}
		m.refuse(part(o, "spec").Decode(out))
		changes := len(m.result.Notes)
		m.head(out, o.GetKind(), o.GetName())
		m.metadata(o, out)
		if len(m.result.Refusals()) > before {
			return
		}
		if adjust != nil {
			adjust(m, o, out)
		}
		if m.write(out) && len(m.result.Notes) == changes {
			m.note(Taken, "", "")
		}
	}
}

// part is o with the given fields only, as far as it has them.
func part(o manifest.Object, names ...string) manifest.Object {
	out := map[string]any{}
	for _, name := range names {
		if value := o.Object[name]; value != nil {
			out[name] = value
		}
	}
	return manifest.Object{Unstructured: unstructured.Unstructured{Object: out}}
}

// refuse notes what cannot be decoded.
func (m *migration) refuse(wrong []manifest.FieldError) {
	for _, e := range wrong {
		m.note(Refused, e.Field, "%s; correct it, or delete it and see what the object does without", e.Message)
	}
}

// head gives one of ours its type, name and namespace.
func (m *migration) head(o Object, kind, name string) {
	o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{Group: v1beta1.Group, Version: v1beta1.Version, Kind: kind})
	o.SetName(name)
	o.SetNamespace(m.options.Namespace)
}

// metadata takes labels and annotations over, without those by which a tool claims the object it has made.
func (m *migration) metadata(from manifest.Object, to Object) {
	var in struct {
		metav1.ObjectMeta `json:"metadata"`
	}
	m.refuse(part(from, "metadata").Decode(&in))
	to.SetLabels(m.unclaimed("metadata.labels", in.Labels))
	to.SetAnnotations(m.unclaimed("metadata.annotations", in.Annotations))
	if len(in.Finalizers)+len(in.OwnerReferences) > 0 {
		m.note(Changed, "metadata", "finalizers and ownerReferences are left out: whoever put them there does not know the new object")
	}
}

func (m *migration) unclaimed(at string, in map[string]string) map[string]string {
	var out map[string]string
	for _, key := range slices.Sorted(maps.Keys(in)) {
		switch {
		case key == "kubectl.kubernetes.io/last-applied-configuration": // kubectl writes it anew
		case strings.HasPrefix(key, "meta.helm.sh/") || key == "app.kubernetes.io/managed-by" || strings.HasPrefix(key, "argocd.argoproj.io/"):
			m.note(Changed, at+"["+key+"]", "%q is left out: the tool that it names has not made the new object", in[key])
		default:
			if out == nil {
				out = map[string]string{}
			}
			out[key] = in[key]
		}
	}
	return out
}

// secret is a Secret that has to be copied into our namespace.
type secret struct{ namespace, name string }

// peer changes what a BGPPeer says of its Secret, which must be in our namespace, and leaves out a keepaliveTime of nothing, by
// which MetalLB's older versions wrote that there is none.
func (m *migration) peer(from manifest.Object, o Object) {
	p := o.(*v1beta1.BGPPeer)
	hold, keepalive := p.Spec.HoldTime, p.Spec.KeepaliveTime
	if keepalive != nil && keepalive.Duration == 0 && (hold == nil || hold.Duration != 0) {
		m.note(Changed, "spec.keepaliveTime", "is 0s and left out: a third of holdTime counts; to send nothing for longer than that would end the session")
		p.Spec.KeepaliveTime = nil
	}
	ref := p.Spec.PasswordSecret
	if p.Spec.SecretName() == "" {
		return
	}
	was := ref.Namespace
	if was == "" {
		was = from.GetNamespace()
	}
	if was == m.options.Namespace {
		return
	}
	if s := (secret{was, ref.Name}); !slices.Contains(m.secrets, s) {
		m.secrets = append(m.secrets, s)
	}
	m.note(Changed, "spec.passwordSecret", "Secret %s/%s is to be copied into namespace %s; a step says how", was, ref.Name, m.options.Namespace)
	p.Spec.PasswordSecret = &v1beta1.SecretReference{Name: ref.Name}
}

// profile leaves the echo function out, which our BFD has not.
func (m *migration) profile(_ manifest.Object, o Object) {
	p := o.(*v1beta1.BFDProfile)
	if p.Spec.EchoMode != nil && *p.Spec.EchoMode {
		m.note(Changed, "spec.echoMode", "is left out: there is no echo function (RFC 5880 section 6.4), so that a failure is noticed by receiveInterval and detectMultiplier alone; shorten those if they relied on it")
		p.Spec.EchoMode = nil
	}
	if p.Spec.EchoInterval != nil {
		m.note(Changed, "spec.echoInterval", "is left out: it means nothing without echoMode")
		p.Spec.EchoInterval = nil
	}
}
