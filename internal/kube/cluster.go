package kube

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// Cluster is the API server as internal/controller sees it: Services and pools in, verdicts and counts out.
type Cluster struct {
	cached *Reader
	live   client.Reader
	writer client.StatusClient
	lease  *Lease
	events events.EventRecorder
	opts   Options

	written written
	quotas  map[string]string // values of the annotation for a quota that the Namespaces have been told cannot be read
}

// NewCluster reads from mgr's cache, and past it where only the newest will do. It writes only while lease allows. The Events
// are sent while mgr runs and leads.
func NewCluster(mgr manager.Manager, lease *Lease, opts Options) (*Cluster, *Events, error) {
	events := newEvents(mgr.GetClient(), mgr.GetLogger(), mgr.GetScheme())
	if err := mgr.Add(events); err != nil {
		return nil, nil, fmt.Errorf("adding the sender of Events: %w", err)
	}
	return &Cluster{
		cached: NewReader(mgr.GetClient(), opts),
		live:   mgr.GetAPIReader(),
		writer: mgr.GetClient(),
		lease:  lease,
		events: events,
		opts:   opts,
	}, events, nil
}

// existingPage bounds how many whole Services, of some kilobytes each, are in memory at a time beside the cache.
const existingPage = 500

// State says what a Service is to us.
type State int

// A Service may not exist, be somebody else's business, or ours.
const (
	Gone State = iota
	Foreign
	Ours
)

// Wish is one Service as the API server has it.
type Wish struct {
	State   State
	Service lb.Service // if Ours
	Refusal lb.Refusal // BadRequest if a wish in it cannot be read
	Created time.Time  // metadata.creationTimestamp, in seconds
	Marked  bool       // it carries our condition: its status was written by us
	Version string     // metadata.resourceVersion
}

// Service returns the Service called key as the cache has it, or as we have written it since.
func (c *Cluster) Service(ctx context.Context, key lb.ServiceKey) (Wish, error) {
	s, err := c.newest(ctx, key)
	if err != nil {
		return Wish{}, err
	}
	if s == nil {
		return Wish{State: Gone}, nil
	}
	var ns corev1.Namespace
	err = c.cached.client.Get(ctx, client.ObjectKey{Name: s.Namespace}, &ns, client.UnsafeDisableDeepCopy)
	if err != nil && !apierrors.IsNotFound(err) { // its event may arrive after the Service's, and wakes it then
		return Wish{}, fmt.Errorf("getting Namespace of Service %s: %w", key, err)
	}
	return c.wish(s, &ns), nil
}

// newest returns the Service, which must not be changed, or nil if there is none.
func (c *Cluster) newest(ctx context.Context, key lb.ServiceKey) (*corev1.Service, error) {
	var s corev1.Service
	err := c.cached.client.Get(ctx, objectKey(key), &s, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		return c.written.newest(key, nil), nil
	}
	if err != nil {
		return nil, fmt.Errorf("getting Service %s: %w", key, err)
	}
	return c.written.newest(key, &s), nil
}

func (c *Cluster) wish(s *corev1.Service, ns *corev1.Namespace) Wish {
	w := Wish{State: Foreign, Created: s.CreationTimestamp.Time, Marked: marked(s), Version: s.ResourceVersion}
	if c.opts.Ours(s) {
		w.State = Ours
		w.Service, w.Refusal = Service(s, ns.Labels)
		w.Service.Quota, _ = Quota(ns, c.opts.MaxPerNamespace) // the Namespace is told what cannot be read
	}
	return w
}

// marked reports whether s carries our condition.
func marked(s *corev1.Service) bool {
	return meta.FindStatusCondition(s.Status.Conditions, ConditionAllocated) != nil
}

// Existing returns all our Services, past the cache, the oldest first. An earlier leader may have written a status that
// the cache has not seen, or that is still on its way: that is waited for.
func (c *Cluster) Existing(ctx context.Context) ([]Wish, error) {
	if err := c.lease.settle(ctx); err != nil {
		return nil, err
	}
	return c.list(ctx)
}

// list reads all our Services from the API server, the oldest first.
func (c *Cluster) list(ctx context.Context) ([]Wish, error) {
	var all corev1.NamespaceList
	if err := c.cached.list(ctx, &all); err != nil {
		return nil, err
	}
	namespaces := map[string]*corev1.Namespace{}
	for i := range all.Items {
		namespaces[all.Items[i].Name] = &all.Items[i]
	}
	var out []Wish
	for page := (corev1.ServiceList{}); ; {
		ours := client.MatchingFields{typeField: string(corev1.ServiceTypeLoadBalancer)}
		if err := c.live.List(ctx, &page, ours, client.Limit(existingPage), client.Continue(page.Continue)); err != nil {
			return nil, fmt.Errorf("listing Services: %w", err)
		}
		for i := range page.Items {
			if s := &page.Items[i]; c.opts.Ours(s) {
				ns := namespaces[s.Namespace]
				if ns == nil { // its event may arrive later, and wakes the Service then
					ns = &corev1.Namespace{}
				}
				out = append(out, c.wish(s, ns))
			}
		}
		if page.Continue == "" {
			break
		}
	}
	slices.SortFunc(out, func(a, b Wish) int {
		if d := a.Created.Compare(b.Created); d != 0 {
			return d
		}
		return a.Service.Key.Compare(b.Service.Key)
	})
	return out, nil
}

// Pools returns the pools of our namespace with their history, sorted by name.
func (c *Cluster) Pools(ctx context.Context) ([]lb.Pool, error) {
	var list v1beta1.IPAddressPoolList
	if err := c.cached.list(ctx, &list, client.InNamespace(c.opts.Namespace)); err != nil {
		return nil, err
	}
	out := convertPools(&list)
	histories := map[string][]lb.Sample{}
	for i := range list.Items {
		histories[list.Items[i].Name] = history(&list.Items[i].Status)
	}
	for i := range out {
		out[i].History = histories[out[i].Name]
	}
	return out, nil
}

func objectKey(key lb.ServiceKey) client.ObjectKey {
	return client.ObjectKey{Namespace: key.Namespace, Name: key.Name}
}
