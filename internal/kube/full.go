package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

// every holds all Services and their endpoints as nouns, for datapath mode full. Events keep it up to date, so that facts cost what
// has changed and not ten thousand conversions. What it returns is never written to again.
type every struct {
	ours func(*corev1.Service) bool

	mu       sync.Mutex // guards the following
	filled   bool
	services map[lb.ServiceKey]*corev1.Service
	slices   map[lb.ServiceKey][]*discoveryv1.EndpointSlice // by name

	// What has to be converted again, and what it was converted to the last time.
	staleServices, staleEndpoints map[lb.ServiceKey]bool
	mine, others                  []lb.Service // sorted by key
	endpoints                     map[lb.ServiceKey][]lb.Endpoint
}

func newEvery(opts Options) *every {
	return &every{ours: opts.Ours, services: map[lb.ServiceKey]*corev1.Service{}, slices: map[lb.ServiceKey][]*discoveryv1.EndpointSlice{},
		staleServices: map[lb.ServiceKey]bool{}, staleEndpoints: map[lb.ServiceKey]bool{}, endpoints: map[lb.ServiceKey][]lb.Endpoint{}}
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
func (e *every) service(old, now any) bool {
	if !changed(old, now) {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	was, _ := old.(*corev1.Service)
	is, _ := now.(*corev1.Service)
	if is != nil && (Forwarded(is) || e.ours(is)) {
		key := lb.ServiceKey{Namespace: is.Namespace, Name: is.Name}
		e.services[key] = is
		e.staleServices[key] = true
		return true
	}
	s := is
	if s == nil {
		s = was
	}
	if s == nil {
		return false
	}
	key := lb.ServiceKey{Namespace: s.Namespace, Name: s.Name}
	_, known := e.services[key]
	delete(e.services, key)
	e.staleServices[key] = known
	return known
}

// slice is the same for an EndpointSlice. A slice may change its Service.
func (e *every) slice(old, now any) bool {
	if !changed(old, now) {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	matters := false
	if was, ok := old.(*discoveryv1.EndpointSlice); ok && was != nil {
		matters = e.without(was)
	}
	if is, ok := now.(*discoveryv1.EndpointSlice); ok && is != nil {
		if key, ok := ServiceOf(is); ok {
			e.without(is)
			e.slices[key] = append(e.slices[key], is)
			e.staleEndpoints[key] = true
			_, known := e.services[key]
			matters = matters || known
		}
	}
	return matters
}

// without forgets the slice of s's name, and reports whether a Service loses something by it.
func (e *every) without(s *discoveryv1.EndpointSlice) bool {
	key, ok := ServiceOf(s)
	i := slices.IndexFunc(e.slices[key], func(x *discoveryv1.EndpointSlice) bool { return x.Name == s.Name })
	if !ok || i < 0 {
		return false
	}
	e.slices[key] = slices.Delete(slices.Clone(e.slices[key]), i, i+1)
	if len(e.slices[key]) == 0 {
		delete(e.slices, key)
	}
	e.staleEndpoints[key] = true
	_, known := e.services[key]
	return known
}

// namespace has the Services of a Namespace whose labels have changed converted again.
func (e *every) namespace(old, now any) bool {
	if !labelsChanged(old, now) {
		return false
	}
	ns, ok := now.(*corev1.Namespace)
	if !ok {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, s := range e.services {
		if key.Namespace == ns.Name && e.ours(s) {
			e.staleServices[key] = true
		}
	}
	return true
}

// facts adds the Services and endpoints to f. It fails until the events that fill e have all been seen.
func (e *every) facts(ctx context.Context, r *Reader, f *Facts) error {
	namespaces, err := r.namespaceLabels(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.filled {
		return fmt.Errorf("reading all Services: %w", context.DeadlineExceeded)
	}
	e.convertEndpoints()
	e.convertServices(namespaces)
	f.Services, f.Others, f.Endpoints = e.mine, e.others, e.endpoints
	return nil
}

func (e *every) convertEndpoints() {
	stale := maps.Clone(e.staleEndpoints)
	for key := range e.staleServices {
		stale[key] = true
	}
	if len(stale) == 0 {
		return
	}
	e.endpoints = maps.Clone(e.endpoints)
	for key := range stale {
		_, served := e.services[key]
		_, known := e.endpoints[key]
		switch {
		case !served:
			delete(e.endpoints, key)
		case !known || e.staleEndpoints[key]:
			e.endpoints[key] = Endpoints(e.slices[key])
		}
	}
	clear(e.staleEndpoints)
}

func (e *every) convertServices(namespaces map[string]map[string]string) {
	if len(e.staleServices) == 0 {
		return
	}
	var mine, others []lb.Service
	for key := range e.staleServices {
		s := e.services[key]
		switch {
		case s == nil:
		case e.ours(s):
			svc, _ := Service(s, namespaces[s.Namespace]) // the controller reports what cannot be read
			reach(s, &svc)
			mine = append(mine, svc)
		default:
			svc := served(s)
			reach(s, &svc)
			others = append(others, svc)
		}
	}
	e.mine = replace(e.mine, mine, e.staleServices)
	e.others = replace(e.others, others, e.staleServices)
	clear(e.staleServices)
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

// fill is called when all events of what existed at the start have been seen.
func (e *every) fill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.filled = true
}
