package kube

import (
	"maps"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The functions below say whether an event matters; old is nil for an addition, now for a deletion.

// changed leaves out the replays of a resync.
func changed(old, now any) bool {
	a, noOld := meta.Accessor(old)
	b, noNow := meta.Accessor(now)
	return noOld != nil || noNow != nil || a.GetResourceVersion() != b.GetResourceVersion()
}

// generationChanged leaves out changes of the status too, where nobody reads the labels.
func generationChanged(old, now any) bool {
	a, hadOld := old.(client.Object)
	b, hasNow := now.(client.Object)
	return !hadOld || !hasNow || a.GetGeneration() != b.GetGeneration() || a.GetUID() != b.GetUID()
}

// nodeChanged leaves out the kubelet's heartbeats.
func nodeChanged(old, now any) bool {
	a, hadOld := old.(*corev1.Node)
	b, hasNow := now.(*corev1.Node)
	return !hadOld || !hasNow || !reflect.DeepEqual(Node(a), Node(b))
}

// podChanged keeps of a speaker's pod what [Facts] says about it.
func podChanged(old, now any) bool {
	a, hadOld := old.(*corev1.Pod)
	b, hasNow := now.(*corev1.Pod)
	if !hadOld || !hasNow {
		return true
	}
	oldNode, oldAddr := speakerOf(a)
	newNode, newAddr := speakerOf(b)
	return oldNode != newNode || oldAddr != newAddr
}

func labelsChanged(old, now any) bool {
	a, hadOld := old.(client.Object)
	b, hasNow := now.(client.Object)
	return !hadOld || !hasNow || !maps.Equal(a.GetLabels(), b.GetLabels())
}

// namespaceMatters lets pass what the allocation reads of a Namespace: its labels and its quota.
func namespaceMatters(old, now any) bool {
	if labelsChanged(old, now) {
		return true
	}
	const name = AnnotationPrefix + AnnotationQuota
	a, had := old.(client.Object).GetAnnotations()[name]
	b, has := now.(client.Object).GetAnnotations()[name]
	return had != has || a != b
}

// slim drops from cached objects what nobody here reads; it is the cache's transform.
func slim(in any) (any, error) {
	o, ok := in.(client.Object)
	if !ok {
		return in, nil
	}
	o.SetManagedFields(nil)
	if annotations := o.GetAnnotations(); annotations[corev1.LastAppliedConfigAnnotation] != "" {
		delete(annotations, corev1.LastAppliedConfigAnnotation)
	}
	switch o := o.(type) {
	case *corev1.Node:
		o.Spec = corev1.NodeSpec{Unschedulable: o.Spec.Unschedulable, Taints: o.Spec.Taints, PodCIDRs: o.Spec.PodCIDRs}
		o.Status = corev1.NodeStatus{Conditions: o.Status.Conditions, Addresses: o.Status.Addresses}
	case *corev1.Secret:
		o.Data = map[string][]byte{corev1.BasicAuthPasswordKey: o.Data[corev1.BasicAuthPasswordKey]}
	case *corev1.Pod:
		o.Spec = corev1.PodSpec{NodeName: o.Spec.NodeName}
		o.Status = corev1.PodStatus{Phase: o.Status.Phase, PodIP: o.Status.PodIP}
	case *corev1.Service:
		if o.Spec.Type != corev1.ServiceTypeLoadBalancer { // of these only our traces matter
			o.Labels = nil
			o.Spec = corev1.ServiceSpec{Type: o.Spec.Type}
		}
	}
	return o, nil
}
