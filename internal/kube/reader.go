package kube

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// Facts is what the API server contributes to a speaker's lb.Snapshot. It shares memory with the cache: readers must not
// write.
type Facts struct {
	Services  []lb.Service // ours only, sorted by key
	Others    []lb.Service // with [Options.Full] those that are not ours and that we forward for, sorted by key
	Endpoints lb.Endpoints
	LeftOut   map[lb.ServiceKey]lb.Refusal // the Services of which Endpoints does not have all, and why; nil = none
	Nodes     map[lb.NodeName]lb.Node
	Pools     []lb.Pool             // sorted by name
	L2        []lb.L2Advertisement  // sorted by name
	BGP       []lb.BGPAdvertisement // sorted by name
	BGPPeers  []lb.BGPPeer          // sorted by name, with their passwords

	// Speakers holds the nodes on which a speaker runs or is about to, with the address at which it listens; the zero address
	// if that is not known yet.
	Speakers map[lb.NodeName]netip.Addr

	// Version is the same in two answers of one reader only if they differ in nothing but Endpoints and LeftOut; 0 = nobody looked.
	Version uint64
}

// Reader builds facts out of a cache. It may be used from several goroutines.
type Reader struct {
	client client.Reader
	opts   Options
	record *record // of a speaker's; otherwise nothing is kept between calls
}

// NewReader reads from c each time anew: with a client that is no cache every call costs a dozen lists. It does not know
// [Options.Full].
func NewReader(c client.Reader, opts Options) *Reader { return &Reader{client: c, opts: opts} }

// NewSpeakerReader reads from the cache of [NewSpeakerCache], Services and their endpoints by the events that [Reader.Watch] sees.
func NewSpeakerReader(c client.Reader, opts Options) *Reader {
	return &Reader{client: c, opts: opts, record: newRecord(opts)}
}

// Facts returns everything as of now. Until the cache has synced, or of a speaker's reader until Watch has seen everything, it
// waits, as long as ctx allows.
func (r *Reader) Facts(ctx context.Context) (f Facts, err error) {
	if r.record != nil {
		return r.record.facts(ctx, r)
	}
	if f.Services, err = r.services(ctx); err != nil {
		return Facts{}, err
	}
	if f.Endpoints, f.LeftOut, err = r.endpoints(ctx, f.Services); err != nil {
		return Facts{}, err
	}
	return r.rest(ctx, f)
}

// rest returns f with everything that is not about Services.
func (r *Reader) rest(ctx context.Context, f Facts) (_ Facts, err error) {
	if f.Nodes, err = r.nodes(ctx); err != nil {
		return Facts{}, err
	}
	if f.Pools, err = r.pools(ctx); err != nil {
		return Facts{}, err
	}
	if f.L2, err = r.advertisements(ctx); err != nil {
		return Facts{}, err
	}
	if f.BGP, f.BGPPeers, err = r.bgp(ctx); err != nil {
		return Facts{}, err
	}
	f.Speakers, err = r.speakers(ctx)
	return f, err
}

// SpeakerPeers returns the addresses of all speakers that run or are about to, this one's included, sorted.
func (r *Reader) SpeakerPeers(ctx context.Context) ([]netip.Addr, error) {
	speakers, err := r.speakers(ctx)
	if err != nil {
		return nil, err
	}
	out := slices.SortedFunc(maps.Values(speakers), netip.Addr.Compare)
	return slices.DeleteFunc(slices.Compact(out), func(a netip.Addr) bool { return !a.IsValid() }), nil
}

// speakers finds the speakers by their pods, which have their node's address.
func (r *Reader) speakers(ctx context.Context) (map[lb.NodeName]netip.Addr, error) {
	var list corev1.PodList
	if err := r.list(ctx, &list, client.InNamespace(r.opts.Namespace), client.MatchingLabels{SpeakerLabel: SpeakerValue}); err != nil {
		return nil, err
	}
	out := map[lb.NodeName]netip.Addr{}
	for i := range list.Items {
		node, addr := speakerOf(&list.Items[i])
		if node != "" && (addr.IsValid() || !out[node].IsValid()) { // during a restart a node has two pods
			out[node] = addr
		}
	}
	return out, nil
}

// speakerOf returns the node of a speaker's pod and its address there, as far as they are known; "" if the pod has ended.
func speakerOf(p *corev1.Pod) (lb.NodeName, netip.Addr) {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return "", netip.Addr{}
	}
	addr, _ := parseSloppy(p.Status.PodIP)
	return lb.NodeName(p.Spec.NodeName), addr
}

// list reads without copying; the conversions only read.
func (r *Reader) list(ctx context.Context, into client.ObjectList, opts ...client.ListOption) error {
	if err := r.client.List(ctx, into, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		return fmt.Errorf("listing %T: %w", into, err)
	}
	return nil
}

func (r *Reader) services(ctx context.Context) ([]lb.Service, error) {
	var list corev1.ServiceList
	if err := r.list(ctx, &list); err != nil {
		return nil, err
	}
	namespaces, err := r.namespaceLabels(ctx)
	if err != nil {
		return nil, err
	}
	var out []lb.Service
	for i := range list.Items {
		if s := &list.Items[i]; r.opts.Ours(s) {
			svc, _ := Service(s, namespaces[s.Namespace]) // the controller reports what cannot be read
			out = append(out, svc)
		}
	}
	slices.SortFunc(out, func(a, b lb.Service) int { return a.Key.Compare(b.Key) })
	return out, nil
}

func (r *Reader) namespaceLabels(ctx context.Context) (map[string]map[string]string, error) {
	var list corev1.NamespaceList
	if err := r.list(ctx, &list); err != nil {
		return nil, err
	}
	out := make(map[string]map[string]string, len(list.Items))
	for i := range list.Items {
		out[list.Items[i].Name] = list.Items[i].Labels
	}
	return out, nil
}

// endpoints groups all slices by Service in one pass; a lookup per Service would scan its namespace each time.
func (r *Reader) endpoints(ctx context.Context, services []lb.Service) (lb.Endpoints, map[lb.ServiceKey]lb.Refusal, error) {
	var list discoveryv1.EndpointSliceList
	if err := r.list(ctx, &list); err != nil {
		return nil, nil, err
	}
	grouped := make(map[lb.ServiceKey][]*discoveryv1.EndpointSlice, len(services))
	for _, s := range services {
		grouped[s.Key] = nil
	}
	for i := range list.Items {
		key, ok := ServiceOf(&list.Items[i])
		if group, ours := grouped[key]; ok && ours {
			grouped[key] = append(group, &list.Items[i])
		}
	}
	out, refusals := make(map[lb.ServiceKey][]lb.Endpoint, len(grouped)), make(map[lb.ServiceKey]lb.Refusal, len(grouped))
	for key, group := range grouped {
		out[key], refusals[key] = Endpoints(group)
	}
	return lb.EndpointsOf(out), with(nil, refusals), nil
}

func (r *Reader) nodes(ctx context.Context) (map[lb.NodeName]lb.Node, error) {
	var list corev1.NodeList
	if err := r.list(ctx, &list); err != nil {
		return nil, err
	}
	out := make(map[lb.NodeName]lb.Node, len(list.Items))
	for i := range list.Items {
		n := Node(&list.Items[i])
		out[n.Name] = n
	}
	return out, nil
}

func (r *Reader) pools(ctx context.Context) ([]lb.Pool, error) {
	var list v1beta1.IPAddressPoolList
	if err := r.list(ctx, &list, client.InNamespace(r.opts.Namespace)); err != nil {
		return nil, err
	}
	return convertPools(&list), nil
}

// convertPools returns the pools sorted by name.
func convertPools(list *v1beta1.IPAddressPoolList) []lb.Pool {
	out := make([]lb.Pool, 0, len(list.Items))
	for i := range list.Items {
		p, _ := Pool(&list.Items[i]) // the controller reports what is wrong with it
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b lb.Pool) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (r *Reader) advertisements(ctx context.Context) ([]lb.L2Advertisement, error) {
	var list v1beta1.L2AdvertisementList
	if err := r.list(ctx, &list, client.InNamespace(r.opts.Namespace)); err != nil {
		return nil, err
	}
	out := make([]lb.L2Advertisement, 0, len(list.Items))
	for i := range list.Items {
		a, _ := L2Advertisement(&list.Items[i])
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b lb.L2Advertisement) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
