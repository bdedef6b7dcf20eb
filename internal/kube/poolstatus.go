package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
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

// PoolCounts is what the allocator counted in one pool, and expects of it.
type PoolCounts struct {
	Pool       string
	IPv4, IPv6 AddressCounts
	History    []lb.Sample
	DaysLeft   map[lb.Family]int // no entry where there is no forecast
}

// AddressCounts is what the allocator counted of one family; the highest int64 stands for more than that.
type AddressCounts struct {
	Total, Assigned, Available, Resting int64
}

// WritePools brings the status of every pool, advertisement and BGP object up to date: counts, and whether it is in force. What is
// right already is not written. Namespaces whose quota cannot be read are told so. It must not be called concurrently.
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
	return errors.Join(append(errs, c.writeAdvertisements(ctx), c.writeBGP(ctx), c.reviewQuotas(ctx))...)
}

// reviewQuotas tells each Namespace once, by an Event, that its quota cannot be read: it has no status that could say so.
func (c *Cluster) reviewQuotas(ctx context.Context) error {
	var all corev1.NamespaceList
	if err := c.cached.list(ctx, &all); err != nil {
		return err
	}
	told := map[string]string{}
	for i := range all.Items {
		ns := &all.Items[i]
		_, refusal := Quota(ns, c.opts.MaxPerNamespace)
		if refusal.OK() {
			continue
		}
		value := ns.Annotations[AnnotationPrefix+AnnotationQuota]
		if before, ok := c.quotas[ns.Name]; !ok || before != value {
			c.events.Eventf(ns, nil, corev1.EventTypeWarning, string(refusal.Reason), "Allocate", "%s", refusal.Message)
		}
		told[ns.Name] = value
	}
	c.quotas = told
	return nil
}

func (c *Cluster) writePool(ctx context.Context, p *v1beta1.IPAddressPool, counts map[string]PoolCounts, overlaps map[string][]string) error {
	_, refusal := Pool(p)
	before := p.Status.Conditions
	want := *p.Status.DeepCopy()
	if p.Namespace != c.opts.Namespace {
		refusal = wrongNamespace(p.Namespace, c.opts.Namespace)
		want = v1beta1.IPAddressPoolStatus{Conditions: want.Conditions}
	}
	conditions := []metav1.Condition{readyCondition(refusal, overlaps[p.Name], p.Generation)}
	if n, counted := counts[p.Name]; p.Namespace == c.opts.Namespace {
		conditions = append(conditions, overlapCondition(overlaps[p.Name], p.Generation))
		if counted { // else the allocator has not heard of it yet
			count(&want, n)
			conditions = append(conditions, stockConditions(n, p.Generation)...)
		}
	}
	for _, condition := range conditions {
		meta.SetStatusCondition(&want.Conditions, condition)
	}
	if equality.Semantic.DeepEqual(want, p.Status) {
		return nil
	}
	wrote, err := c.writeStatus(ctx, p, want, "daysLeftIPv4", "daysLeftIPv6")
	if wrote {
		c.say(p, before, conditions)
	}
	return err
}

// count puts into the status what the allocator counted.
func count(status *v1beta1.IPAddressPoolStatus, n PoolCounts) {
	status.TotalIPv4, status.AssignedIPv4, status.AvailableIPv4, status.RestingIPv4 = n.IPv4.Total, n.IPv4.Assigned, n.IPv4.Available, n.IPv4.Resting
	status.TotalIPv6, status.AssignedIPv6, status.AvailableIPv6, status.RestingIPv6 = n.IPv6.Total, n.IPv6.Assigned, n.IPv6.Available, n.IPv6.Resting
	for family, field := range map[lb.Family]**int32{lb.IPv4: &status.DaysLeftIPv4, lb.IPv6: &status.DaysLeftIPv6} {
		*field = nil
		if days, ok := n.DaysLeft[family]; ok {
			*field = new(int32(days))
		}
	}
	status.UsageHistory = nil
	for _, s := range n.History {
		status.UsageHistory = append(status.UsageHistory, v1beta1.UsageSample{Time: metav1.NewTime(s.At), AssignedIPv4: s.IPv4, AssignedIPv6: s.IPv6})
	}
}

// history is what count wrote.
func history(status *v1beta1.IPAddressPoolStatus) []lb.Sample {
	var out []lb.Sample
	for _, s := range status.UsageHistory {
		out = append(out, lb.Sample{At: s.Time.UTC(), IPv4: s.AssignedIPv4, IPv6: s.AssignedIPv6})
	}
	return out
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
		errs = append(errs, c.writeReady(ctx, a, &a.Status.Conditions, refusal, func() any { return a.Status }))
	}
	return errors.Join(errs...)
}

// writeReady brings the condition Ready of o up to date, which is one of conditions; status returns that of o.
func (c *Cluster) writeReady(ctx context.Context, o client.Object, conditions *[]metav1.Condition, refusal lb.Refusal, status func() any) error {
	if o.GetNamespace() != c.opts.Namespace {
		refusal = wrongNamespace(o.GetNamespace(), c.opts.Namespace)
	}
	before := slices.Clone(*conditions)
	condition := readyCondition(refusal, nil, o.GetGeneration())
	if !meta.SetStatusCondition(conditions, condition) {
		return nil
	}
	wrote, err := c.writeStatus(ctx, o, status())
	if wrote {
		c.say(o, before, []metav1.Condition{condition})
	}
	return err
}

// writeStatus replaces the status of o, zeros included, and reports whether o was still there. Of the fields in status that
// may be absent, those in gone are taken away.
func (c *Cluster) writeStatus(ctx context.Context, o client.Object, status any, gone ...string) (bool, error) {
	body, err := statusPatch(o.GetResourceVersion(), status, gone)
	if err != nil {
		return false, fmt.Errorf("encoding the status of %T %s: %w", o, o.GetName(), err)
	}
	err = c.patchStatus(ctx, o, client.RawPatch(types.MergePatchType, body))
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("writing the status of %T %s: %w", o, o.GetName(), err)
	}
	return true, nil
}

// statusPatch returns a merge patch, in which null takes a field away.
func statusPatch(version string, status any, gone []string) ([]byte, error) {
	text, err := json.Marshal(status)
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	for _, name := range gone {
		if _, ok := fields[name]; !ok {
			fields[name] = json.RawMessage("null")
		}
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": version}, "status": fields})
}

// say records an Event for each of the conditions that has become bad news since before, and one for the end of a shortage.
func (c *Cluster) say(o client.Object, before, conditions []metav1.Condition) {
	for _, now := range conditions {
		was := meta.FindStatusCondition(before, now.Type)
		switch {
		case now.Type == ConditionReady:
			fresh := was == nil || was.Status != now.Status || was.Reason != now.Reason || was.Message != now.Message
			if fresh && now.Reason != ReasonReady && now.Reason != string(lb.PoolOverlap) { // of which Overlapping tells
				c.events.Eventf(o, nil, corev1.EventTypeWarning, now.Reason, "Validate", "%s", now.Message)
			}
		case now.Status == metav1.ConditionTrue && (was == nil || was.Status != metav1.ConditionTrue):
			c.events.Eventf(o, nil, corev1.EventTypeWarning, now.Reason, "Count", "%s", now.Message)
		case now.Type == ConditionExhausted && now.Status == metav1.ConditionFalse && was != nil && was.Status == metav1.ConditionTrue:
			c.events.Eventf(o, nil, corev1.EventTypeNormal, now.Reason, "Count", "there are addresses of each family again")
		}
	}
}

// readyCondition returns Ready of a pool, which may hold addresses with others, or of an advertisement.
func readyCondition(refusal lb.Refusal, others []string, generation int64) metav1.Condition {
	c := metav1.Condition{Type: ConditionReady, Status: metav1.ConditionTrue, Reason: ReasonReady, ObservedGeneration: generation}
	switch {
	case !refusal.OK():
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, string(refusal.Reason), refusal.Message
	case len(others) > 0:
		c.Reason = string(lb.PoolOverlap)
		c.Message = fmt.Sprintf("holds addresses that %s holds too; no address is given out twice, but keep each in one pool", strings.Join(others, ", "))
	}
	return c
}
