package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/lb"
)

// ConditionAllocated is the condition that every Service of ours carries, ReasonAllocated its reason where nothing is
// amiss. Other reasons are lb's.
const (
	ConditionAllocated = "fairlead.dev/Allocated"
	ReasonAllocated    = "Allocated"
)

// FieldOwner is our name in managedFields and in Events.
const FieldOwner = "fairlead-controller"

// Verdict is what the allocator decided about one Service. The zero Verdict stands for a Service that is none of ours any
// more: it removes our traces.
type Verdict struct {
	Ours     bool
	Released bool // what the annotation for a release asks is done: it goes
	Pool     string
	Addrs    []netip.Addr
	Refusal  lb.Refusal
}

// satisfied reports whether the Service has what it asks for.
func (v Verdict) satisfied() bool {
	return v.Refusal.OK() || v.Refusal.Reason == lb.AddressOutsidePools
}

// condition returns what the verdict says to the Service's owner.
func (v Verdict) condition(generation int64) metav1.Condition {
	c := metav1.Condition{Type: ConditionAllocated, Status: metav1.ConditionTrue, ObservedGeneration: generation, Reason: ReasonAllocated}
	if !v.satisfied() {
		c.Status = metav1.ConditionFalse
	}
	if v.Refusal.OK() {
		c.Message = fmt.Sprintf("%s from pool %q", joinAddrs(v.Addrs), v.Pool)
	} else {
		c.Reason, c.Message = string(v.Refusal.Reason), v.Refusal.Message
	}
	return c
}

func joinAddrs(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, " and ")
}

// ErrOutdated says that a Service was not written because it has changed since the decision. Its change is on its way through
// the cache, and with it the next decision.
var ErrOutdated = errors.New("the Service has changed since the decision")

// WriteService makes status, condition and pool annotation of the Service say what v says, in one write, or in none if they
// do. It reports whether it wrote. The decision was made on the given version of the Service; where that is not the newest
// any more, here or in the API server, the error is ErrOutdated. A Service that is gone is no error. It is safe for
// concurrent use, but not for one Service at the same time.
func (c *Cluster) WriteService(ctx context.Context, key lb.ServiceKey, version string, v Verdict) (bool, error) {
	s, err := c.newest(ctx, key)
	if err != nil || s == nil {
		return false, err
	}
	if s.ResourceVersion != version {
		return false, fmt.Errorf("writing the status of Service %s: %w", key, ErrOutdated)
	}
	change := servicePatch(s, v, c.opts.IPMode)
	if change == nil {
		return false, nil
	}
	body, err := json.Marshal(change)
	if err != nil {
		return false, fmt.Errorf("encoding the status of Service %s: %w", key, err)
	}
	target := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	err = c.patchStatus(ctx, target, client.RawPatch(types.StrategicMergePatchType, body))
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case apierrors.IsConflict(err):
		return false, fmt.Errorf("writing the status of Service %s: %w: %w", key, ErrOutdated, err)
	case err != nil:
		return false, fmt.Errorf("writing the status of Service %s: %w", key, err)
	}
	if _, err := slim(target); err != nil {
		return true, err
	}
	c.written.put(key, target)
	c.announce(s, v)
	return true, nil
}

// patchStatus is the only way out: no write of a process that may not lead any more.
func (c *Cluster) patchStatus(ctx context.Context, o client.Object, p client.Patch) error {
	ctx, ended, err := c.lease.writing(ctx)
	if err != nil {
		return err
	}
	err = c.writer.Status().Patch(ctx, o, p, client.FieldOwner(FieldOwner))
	ended(err)
	return err
}

// announce records the Event of a change.
func (c *Cluster) announce(s *corev1.Service, v Verdict) {
	said := v.condition(0)
	kind := corev1.EventTypeNormal
	switch {
	case !v.Ours:
		said.Reason, said.Message = "Released", "the Service is not of our type and class any more; its addresses are free"
	case v.Released:
		said.Reason, said.Message = "Released", releaseMessage(lb.Service{Ingress: ingress(s)}.Addrs(), v)
	case !v.Refusal.OK():
		kind = corev1.EventTypeWarning
	}
	c.events.Eventf(s, nil, kind, said.Reason, "Allocate", "%s", said.Message)
}

// releaseMessage says what came of an annotation for a release on a Service that had the addresses before.
func releaseMessage(before []netip.Addr, v Verdict) string {
	const name = AnnotationPrefix + AnnotationRelease
	given := slices.DeleteFunc(before, func(a netip.Addr) bool { return slices.Contains(v.Addrs, a) })
	if len(given) == 0 {
		return fmt.Sprintf("nothing given up for annotation %s: today's pools give %s", name, joinAddrs(v.Addrs))
	}
	return fmt.Sprintf("%s given up for annotation %s; now %s from pool %q", joinAddrs(given), name, joinAddrs(v.Addrs), v.Pool)
}

// servicePatch returns the strategic merge patch that brings s to v, nil if it is there.
func servicePatch(s *corev1.Service, v Verdict, mode lb.IPMode) map[string]any {
	metadata, status := map[string]any{}, map[string]any{}
	if want := wantedIngress(v, mode); !slices.Equal(want, ingress(s)) || len(want) != len(s.Status.LoadBalancer.Ingress) {
		status["loadBalancer"] = map[string]any{"ingress": encodeIngress(want)}
	}
	if annotations := annotationsPatch(s, v); len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	conditions := slices.Clone(s.Status.Conditions)
	if !v.Ours {
		if marked(s) {
			status["conditions"] = []any{map[string]any{"$patch": "delete", "type": ConditionAllocated}}
		}
	} else if meta.SetStatusCondition(&conditions, v.condition(s.Generation)) {
		status["conditions"] = []any{meta.FindStatusCondition(conditions, ConditionAllocated)}
	}
	if len(metadata) == 0 && len(status) == 0 {
		return nil
	}
	metadata["resourceVersion"] = s.ResourceVersion // also another one if the Service was deleted and created anew
	return map[string]any{"metadata": metadata, "status": status}
}

// annotationsPatch returns the annotations that v changes; nil takes one away.
func annotationsPatch(s *corev1.Service, v Verdict) map[string]any {
	const pool, release = AnnotationPrefix + AnnotationFromPool, AnnotationPrefix + AnnotationRelease
	out := map[string]any{}
	if have, ok := s.Annotations[pool]; v.Pool != have || ok && v.Pool == "" {
		out[pool] = nil
		if v.Pool != "" {
			out[pool] = v.Pool
		}
	}
	if _, ok := s.Annotations[release]; ok && v.Released {
		out[release] = nil
	}
	return out
}

func wantedIngress(v Verdict, mode lb.IPMode) []lb.Ingress {
	var out []lb.Ingress
	for _, a := range v.Addrs {
		out = append(out, lb.Ingress{Addr: a, Mode: mode})
	}
	return out
}

// encodeIngress returns nil, which deletes the field, for no addresses.
func encodeIngress(in []lb.Ingress) any {
	if len(in) == 0 {
		return nil
	}
	var out []corev1.LoadBalancerIngress
	for _, i := range in {
		mode := corev1.LoadBalancerIPMode(i.Mode)
		out = append(out, corev1.LoadBalancerIngress{IP: i.Addr.String(), IPMode: &mode})
	}
	return out
}
