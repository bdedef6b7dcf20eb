package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

// record holds the Services that the speaker deals with, ours or in datapath mode full every one, and their endpoints, as nouns.
// Events keep it up to date, so that facts cost what has changed and not ten thousand conversions. Of everything else it knows only when it
// changes. What it returns is never written to again.
type record struct {
	opts   Options
	filled chan struct{} // closed when all events of what existed at the start have been seen

	mu       sync.Mutex // guards the following
	services map[lb.ServiceKey]*keptService
	slices   map[lb.ServiceKey][]*keptSlice

	// What has to be converted again, and what it was converted to the last time.
	staleServices, staleEndpoints map[lb.ServiceKey]bool
	mine, others                  []lb.Service // sorted by key
	endpoints                     lb.Endpoints
	leftOut                       map[lb.ServiceKey]lb.Refusal // replaced, not written to

	version uint64 // grows with each change of anything but endpoints
	last    Facts  // the last answer, without Services and endpoints
}

func newRecord(opts Options) *record {
	return &record{opts: opts, filled: make(chan struct{}), services: map[lb.ServiceKey]*keptService{}, slices: map[lb.ServiceKey][]*keptSlice{},
		staleServices: map[lb.ServiceKey]bool{}, staleEndpoints: map[lb.ServiceKey]bool{}}
}

// Forwarded reports whether datapath mode full serves s: it has an address in the cluster, and no label gives it to another proxy or
// to none (S1).
func Forwarded(s *corev1.Service) bool {
	_, foreign := s.Labels[LabelServiceProxyName]
	_, headless := s.Labels[corev1.IsHeadlessService]
	return s.Spec.Type != corev1.ServiceTypeExternalName && s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone && !foreign && !headless
}

// LabelServiceProxyName gives a Service to another service proxy, whatever its value is (KEP-2447).
const LabelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// service takes an event in and reports whether the facts change.
func (r *record) service(old, now any) bool {
	if !changed(old, now) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	is, _ := now.(*keptService)
	if is != nil && (is.ours || is.forwarded) {
		r.services[is.key()] = is
		r.staleServices[is.key()] = true
		r.version++
		return true
	}
	if is == nil {
		is, _ = old.(*keptService)
	}
	if is == nil {
		return false
	}
	_, known := r.services[is.key()]
	if known {
		delete(r.services, is.key())
		r.staleServices[is.key()] = true
		r.version++
	}
	return known
}

// slice is the same for an EndpointSlice. A slice may change its Service.
func (r *record) slice(old, now any) bool {
	if !changed(old, now) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	matters := false
	if was, ok := old.(*keptSlice); ok {
		matters = r.without(was)
	}
	if is, ok := now.(*keptSlice); ok && is.service != (lb.ServiceKey{}) {
		r.without(is)
		r.slices[is.service] = append(r.slices[is.service], is)
		r.staleEndpoints[is.service] = true
		_, known := r.services[is.service]
		matters = matters || known
	}
	return matters
}

// without forgets the slice of s's name, and reports whether a Service loses something by it.
func (r *record) without(s *keptSlice) bool {
	key := s.service
	i := slices.IndexFunc(r.slices[key], func(x *keptSlice) bool { return x.name == s.name })
	if i < 0 {
		return false
	}
	r.slices[key] = slices.Delete(slices.Clone(r.slices[key]), i, i+1)
	if len(r.slices[key]) == 0 {
		delete(r.slices, key)
	}
	r.staleEndpoints[key] = true
	_, known := r.services[key]
	return known
}

// namespace has the Services of a Namespace whose labels have changed converted again.
func (r *record) namespace(old, now any) bool {
	if !labelsChanged(old, now) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	ns, ok := now.(*corev1.Namespace)
	if !ok {
		return true
	}
	for key, s := range r.services {
		if key.Namespace == ns.Name && s.ours {
			r.staleServices[key] = true
		}
	}
	return true
}

// noting has every change that matters noted as one of something else than Services and endpoints.
func (r *record) noting(matters func(old, now any) bool) func(old, now any) bool {
	return func(old, now any) bool {
		if !matters(old, now) {
			return false
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.version++
		return true
	}
}

// facts returns everything; reader reads what the record does not hold, if that may have changed. Until r is filled it waits, as long as
// ctx allows.
func (r *record) facts(ctx context.Context, reader *Reader) (Facts, error) {
	select {
	case <-r.filled:
	case <-ctx.Done():
		return Facts{}, fmt.Errorf("reading all Services: %w", context.Cause(ctx))
	}
	namespaces, err := reader.namespaceLabels(ctx)
	if err != nil {
		return Facts{}, err
	}
	f, same := r.convert(namespaces)
	if same {
		return f, nil
	}
	if f, err = reader.rest(ctx, f); err != nil {
		return Facts{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = f
	r.last.Services, r.last.Others, r.last.Endpoints, r.last.LeftOut = nil, nil, nil, nil // there are newer ones before anybody asks again
	return f, nil
}

// convert returns the facts about Services as of now, with everything else from the last answer if that is the same.
func (r *record) convert(namespaces map[string]map[string]string) (f Facts, same bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.convertEndpoints()
	r.convertServices(namespaces)
	version := r.version + 1 // so that it is never 0
	if same = r.last.Version == version; same {
		f = r.last
	}
	f.Services, f.Others, f.Endpoints, f.LeftOut, f.Version = r.mine, r.others, r.endpoints, r.leftOut, version
	return f, same
}

func (r *record) convertEndpoints() {
	if len(r.staleEndpoints)+len(r.staleServices) == 0 {
		return
	}
	lists := make(map[lb.ServiceKey][]lb.Endpoint, len(r.staleEndpoints))
	refusals := map[lb.ServiceKey]lb.Refusal{}
	for key := range r.staleEndpoints {
		lists[key], refusals[key] = r.endpointsOf(key)
	}
	for key := range r.staleServices {
		if r.endpoints.Of(key) == nil || r.services[key] == nil {
			lists[key], refusals[key] = r.endpointsOf(key)
		}
	}
	r.endpoints, r.leftOut = r.endpoints.With(lists), with(r.leftOut, refusals)
	r.staleEndpoints = map[lb.ServiceKey]bool{} // a map that was large once costs what it had then whenever it is emptied
}

// with returns the refusals in all but for those that news has others for, or none; nil instead of an empty map.
func with(all, news map[lb.ServiceKey]lb.Refusal) map[lb.ServiceKey]lb.Refusal {
	out := maps.Clone(all)
	for key, refusal := range news {
		switch {
		case refusal.OK():
			delete(out, key)
		case out == nil:
			out = map[lb.ServiceKey]lb.Refusal{key: refusal}
		default:
			out[key] = refusal
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// endpointsOf returns the endpoints of a Service that is known.
func (r *record) endpointsOf(key lb.ServiceKey) ([]lb.Endpoint, lb.Refusal) {
	if r.services[key] == nil {
		return nil, lb.Refusal{}
	}
	return endpointsOfKept(r.slices[key])
}

func (r *record) convertServices(namespaces map[string]map[string]string) {
	if len(r.staleServices) == 0 {
		return
	}
	var mine, others []lb.Service
	for key := range r.staleServices {
		s := r.services[key]
		switch {
		case s == nil:
		case s.ours:
			svc := s.take(r.mine)
			svc.NamespaceLabels = namespaces[key.Namespace]
			mine = append(mine, svc)
		default:
			others = append(others, s.take(r.others))
		}
	}
	r.mine = replace(r.mine, mine, r.staleServices)
	r.others = replace(r.others, others, r.staleServices)
	r.staleServices = map[lb.ServiceKey]bool{}
}

// take returns the Service and forgets it, or what was made of it before, in the list, where only the labels of its Namespace are others.
func (k *keptService) take(from []lb.Service) lb.Service {
	if svc := k.noun.Swap(nil); svc != nil {
		return *svc
	}
	i, ok := slices.BinarySearchFunc(from, k.key(), func(s lb.Service, key lb.ServiceKey) int { return s.Key.Compare(key) })
	if !ok {
		panic("kube: a Service was taken and is nowhere")
	}
	return from[i]
}

// object returns what an Event says of the Service that it is about; nil if there is none.
func (r *record) object(key lb.ServiceKey) *corev1.Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[key]
	if s == nil {
		return nil
	}
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name, UID: s.uid, ResourceVersion: s.version}}
}

// replace returns old, which is sorted, without the stale ones and with news.
func replace(old, news []lb.Service, stale map[lb.ServiceKey]bool) []lb.Service {
	gone := slices.ContainsFunc(old, func(s lb.Service) bool { return stale[s.Key] })
	if !gone && len(news) == 0 {
		return old
	}
	slices.SortFunc(news, func(a, b lb.Service) int { return a.Key.Compare(b.Key) })
	out := make([]lb.Service, 0, len(old)+len(news))
	for i := range old {
		if stale[old[i].Key] {
			continue
		}
		for len(news) > 0 && news[0].Key.Compare(old[i].Key) < 0 {
			out = append(out, news[0])
			news = news[1:]
		}
		out = append(out, old[i])
	}
	return append(out, news...)
}
