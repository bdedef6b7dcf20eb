package kube

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/admission"
	"github.com/fairlead-lb/fairlead/lb"
)

// AdmissionReader reads what a change of a pool is judged by. It may be used from several goroutines.
type AdmissionReader struct {
	cluster *Cluster
	nodes   client.Reader
}

// NewAdmissionReader reads Nodes from a cache of its own, which it adds to mgr, and everything else as cluster does. That cache
// is apart so that the allocator and the readiness of the process do not wait for something that only the webhook needs.
func NewAdmissionReader(mgr manager.Manager, cluster *Cluster) (*AdmissionReader, error) {
	nodes, err := newNodeCache(mgr.GetConfig())
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(nodes); err != nil {
		return nil, fmt.Errorf("adding the cache of Nodes: %w", err)
	}
	return &AdmissionReader{cluster: cluster, nodes: nodes}, nil
}

func newNodeCache(cfg *rest.Config) (cache.Cache, error) {
	c, err := cache.New(cfg, cache.Options{Scheme: Scheme(), Mapper: mapper(), DefaultTransform: onlyAddresses})
	if err != nil {
		return nil, fmt.Errorf("setting up the cache of Nodes: %w", err)
	}
	return c, nil
}

// onlyAddresses leaves of a Node what [reservedByNode] reads, and the labels by which it is selected.
func onlyAddresses(in any) (any, error) {
	if n, ok := in.(*corev1.Node); ok {
		n.ManagedFields, n.Annotations = nil, nil
		n.Spec = corev1.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs}
		n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses}
	}
	return in, nil
}

// Facts returns what a change is judged by. Pools, advertisements and ServiceCIDRs are few and always read past the cache:
// two pools that are applied together are milliseconds apart. Services and the namespace come from the cache, or past it if
// fresh is set, which costs a list of all Services of type LoadBalancer.
func (r *AdmissionReader) Facts(ctx context.Context, fresh bool) (admission.Facts, error) {
	live := NewReader(r.cluster.live, r.cluster.opts)
	f := admission.Facts{Namespace: r.cluster.opts.Namespace}
	var err error
	if f.Pools, err = live.pools(ctx); err != nil {
		return admission.Facts{}, err
	}
	if f.L2, err = live.advertisements(ctx); err != nil {
		return admission.Facts{}, err
	}
	if f.Services, f.Terminating, err = r.services(ctx, fresh); err != nil {
		return admission.Facts{}, err
	}
	if f.BGP, err = live.bgpForAdmission(ctx, r.nodes); err != nil {
		return admission.Facts{}, err
	}
	f.Reserved, err = reserved(ctx, r.nodes, r.cluster.live)
	return f, err
}

// AdmissionFacts reads all that a change is judged by from one reader, for those who judge without being the webhook. Where
// Fairlead's namespace does not exist, it counts as one that is not being deleted.
func AdmissionFacts(ctx context.Context, c client.Reader, opts Options) (admission.Facts, error) {
	r := NewReader(c, opts)
	f := admission.Facts{Namespace: opts.Namespace}
	var err error
	if f.Pools, err = r.pools(ctx); err != nil {
		return admission.Facts{}, err
	}
	if f.L2, err = r.advertisements(ctx); err != nil {
		return admission.Facts{}, err
	}
	if f.Services, err = r.services(ctx); err != nil {
		return admission.Facts{}, err
	}
	if f.BGP, err = r.bgpForAdmission(ctx, c); err != nil {
		return admission.Facts{}, err
	}
	var ns corev1.Namespace
	if err := c.Get(ctx, client.ObjectKey{Name: opts.Namespace}, &ns); err != nil && !apierrors.IsNotFound(err) {
		return admission.Facts{}, fmt.Errorf("getting Namespace %s: %w", opts.Namespace, err)
	}
	f.Terminating = ns.DeletionTimestamp != nil
	f.Reserved, err = reserved(ctx, c, c)
	return f, err
}

// bgpForAdmission reads what there is of BGP; the Nodes come from nodes.
func (r *Reader) bgpForAdmission(ctx context.Context, nodes client.Reader) (admission.BGP, error) {
	var out admission.BGP
	var peers v1beta1.BGPPeerList
	var advertisements v1beta1.BGPAdvertisementList
	var profiles v1beta1.BFDProfileList
	var communities v1beta1.CommunityList
	for _, list := range []client.ObjectList{&peers, &advertisements, &profiles, &communities} {
		if err := r.list(ctx, list, client.InNamespace(r.opts.Namespace)); err != nil {
			return admission.BGP{}, err
		}
	}
	var all corev1.NodeList
	if err := nodes.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return admission.BGP{}, fmt.Errorf("listing Nodes: %w", err)
	}
	for i := range peers.Items {
		out.Peers = append(out.Peers, *peerAsked(&peers.Items[i]))
	}
	for i := range advertisements.Items {
		out.Advertisements = append(out.Advertisements, *advertisementAsked(&advertisements.Items[i]))
	}
	for i := range profiles.Items {
		out.Profiles = append(out.Profiles, profiles.Items[i].Name)
	}
	out.Communities = communities.Items
	for i := range all.Items {
		out.Nodes = append(out.Nodes, lb.Node{Name: lb.NodeName(all.Items[i].Name), Labels: all.Items[i].Labels})
	}
	return out, nil
}

func (r *AdmissionReader) services(ctx context.Context, fresh bool) (services []lb.Service, terminating bool, err error) {
	from := r.cluster.cached.client
	if fresh {
		from = r.cluster.live
		wishes, err := r.cluster.list(ctx)
		if err != nil {
			return nil, false, err
		}
		for _, w := range wishes {
			services = append(services, w.Service)
		}
	} else if services, err = r.cluster.cached.services(ctx); err != nil {
		return nil, false, err
	}
	var ns corev1.Namespace
	if err := from.Get(ctx, client.ObjectKey{Name: r.cluster.opts.Namespace}, &ns); err != nil {
		return nil, false, fmt.Errorf("getting Namespace %s: %w", r.cluster.opts.Namespace, err)
	}
	return services, ns.DeletionTimestamp != nil, nil
}

// reserved returns what the cluster uses itself: addresses of Nodes, which are read from one reader, their pods' ranges, and
// ClusterIPs, which are read from the other.
func reserved(ctx context.Context, of, live client.Reader) ([]admission.Reserved, error) {
	var nodes corev1.NodeList
	if err := of.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Nodes: %w", err)
	}
	var out []admission.Reserved
	for i := range nodes.Items {
		out = append(out, reservedByNode(&nodes.Items[i])...)
	}
	var cidrs networkingv1.ServiceCIDRList
	err := live.List(ctx, &cidrs)
	if apierrors.IsNotFound(err) {
		return reservedByKubernetes(ctx, live, out)
	}
	if err != nil {
		return nil, fmt.Errorf("listing ServiceCIDRs: %w", err)
	}
	for _, c := range cidrs.Items {
		for _, text := range c.Spec.CIDRs {
			out = appendPrefix(out, text, fmt.Sprintf("out of %s, from which ServiceCIDR %s gives ClusterIPs", text, c.Name))
		}
	}
	return out, nil
}

// reservedByKubernetes adds the one ClusterIP that every cluster has. API servers before Kubernetes 1.33 do not tell
// their ranges of ClusterIPs.
func reservedByKubernetes(ctx context.Context, live client.Reader, out []admission.Reserved) ([]admission.Reserved, error) {
	var s corev1.Service
	if err := live.Get(ctx, client.ObjectKey{Namespace: "default", Name: "kubernetes"}, &s); err != nil {
		return nil, fmt.Errorf("getting Service default/kubernetes: %w", err)
	}
	for _, ip := range s.Spec.ClusterIPs {
		if addr, ok := parseSloppy(ip); ok {
			out = append(out, single(addr, "the ClusterIP of Service default/kubernetes"))
		}
	}
	return out, nil
}

func reservedByNode(n *corev1.Node) []admission.Reserved {
	var out []admission.Reserved
	for _, a := range n.Status.Addresses {
		addr, ok := parseSloppy(a.Address)
		reserved := single(addr, fmt.Sprintf("an address of Node %s", n.Name))
		if ok && !slices.Contains(out, reserved) { // a hostname is none, or the same again
			out = append(out, reserved)
		}
	}
	for _, text := range n.Spec.PodCIDRs {
		out = appendPrefix(out, text, fmt.Sprintf("out of %s, from which Node %s gives addresses to pods", text, n.Name))
	}
	return out
}

func single(addr netip.Addr, what string) admission.Reserved {
	return admission.Reserved{Range: lb.Range{From: addr, To: addr}, What: what}
}

func appendPrefix(out []admission.Reserved, text, what string) []admission.Reserved {
	from, to, err := v1beta1.ParseAddresses(text)
	if err != nil {
		return out // the API server has validated it
	}
	return append(out, admission.Reserved{Range: lb.Range{From: from, To: to}, What: what})
}
