package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// ConditionReady is the condition of pools and advertisements, ReasonReady its reason where nothing is amiss.
const (
	ConditionReady = "Ready"
	ReasonReady    = "Ready"
)

// PoolCounts is what the allocator counted in one pool.
type PoolCounts struct {
	Pool       string
	IPv4, IPv6 AddressCounts
}

// AddressCounts is what the allocator counted of one family; the highest int64 stands for more than that.
type AddressCounts struct {
	Total, Assigned, Available, Resting int64
}

// WritePools brings the status of every pool and advertisement up to date: counts, and whether it is in force. What is
// right already is not written.
func (c *Cluster) WritePools(ctx context.Context, counts []PoolCounts) error {
	var pools v1beta1.IPAddressPoolList
	if err := c.cached.client.List(ctx, &pools); err != nil {
		return fmt.Errorf("listing IPAddressPools: %w", err)
	}
	inForce, err := c.Pools(ctx)
	if err != nil {
		return err
	}
	byName := map[string]PoolCounts{}
	for _, n := range counts {
		byName[n.Pool] = n
	}
	overlaps := Overlaps(inForce)
	var errs []error
	for i := range pools.Items {
		errs = append(errs, c.writePool(ctx, &pools.Items[i], byName, overlaps))
	}
	return errors.Join(append(errs, c.writeAdvertisements(ctx))...)
}

func (c *Cluster) writePool(ctx context.Context, p *v1beta1.IPAddressPool, counts map[string]PoolCounts, overlaps map[string][]string) error {
	_, refusal := Pool(p)
	want := v1beta1.IPAddressPoolStatus{Conditions: p.Status.DeepCopy().Conditions}
	if p.Namespace == c.opts.Namespace {
		n := counts[p.Name]
		want.TotalIPv4, want.AssignedIPv4, want.AvailableIPv4, want.RestingIPv4 = n.IPv4.Total, n.IPv4.Assigned, n.IPv4.Available, n.IPv4.Resting
		want.TotalIPv6, want.AssignedIPv6, want.AvailableIPv6, want.RestingIPv6 = n.IPv6.Total, n.IPv6.Assigned, n.IPv6.Available, n.IPv6.Resting
	} else {
		refusal = wrongNamespace(p.Namespace, c.opts.Namespace)
	}
	ready := readyCondition(refusal, p.Generation)
	if others := overlaps[p.Name]; refusal.OK() && len(others) > 0 {
		ready.Reason = string(lb.PoolOverlap)
		ready.Message = fmt.Sprintf("holds addresses that %s holds too; no address is given out twice, but keep each in one pool", strings.Join(others, ", "))
	}
	said := meta.SetStatusCondition(&want.Conditions, ready)
	if p.Namespace == c.opts.Namespace {
		for _, condition := range stockConditions(counts[p.Name], overlaps[p.Name], p.Generation) {
			meta.SetStatusCondition(&want.Conditions, condition)
		}
	}
	if reflect.DeepEqual(want, p.Status) {
		return nil
	}
	return c.writeReady(ctx, p, want, ready, said)
}

func (c *Cluster) writeAdvertisements(ctx context.Context) error {
	var list v1beta1.L2AdvertisementList
	if err := c.cached.client.List(ctx, &list); err != nil {
		return fmt.Errorf("listing L2Advertisements: %w", err)
	}
	var errs []error
	for i := range list.Items {
		a := &list.Items[i]
		_, refusal := L2Advertisement(a)
		if a.Namespace != c.opts.Namespace {
			refusal = wrongNamespace(a.Namespace, c.opts.Namespace)
		}
		ready := readyCondition(refusal, a.Generation)
		if meta.SetStatusCondition(&a.Status.Conditions, ready) {
			errs = append(errs, c.writeReady(ctx, a, a.Status, ready, true))
		}
	}
	return errors.Join(errs...)
}

// writeReady replaces the status of o, zeros included, and records an Event if the condition is new and there is more to
// say than that all is well.
func (c *Cluster) writeReady(ctx context.Context, o client.Object, status any, ready metav1.Condition, said bool) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": o.GetResourceVersion()}, "status": status})
	if err != nil {
		return fmt.Errorf("encoding the status of %T %s: %w", o, o.GetName(), err)
	}
	err = c.writer.Status().Patch(ctx, o, client.RawPatch(types.MergePatchType, body), client.FieldOwner(FieldOwner))
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing the status of %T %s: %w", o, o.GetName(), err)
	}
	if said && ready.Reason != ReasonReady {
		c.events.Eventf(o, nil, corev1.EventTypeWarning, ready.Reason, "Validate", "%s", ready.Message)
	}
	return nil
}

func readyCondition(refusal lb.Refusal, generation int64) metav1.Condition {
	c := metav1.Condition{Type: ConditionReady, Status: metav1.ConditionTrue, Reason: ReasonReady, ObservedGeneration: generation}
	if !refusal.OK() {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, string(refusal.Reason), refusal.Message
	}
	return c
}
