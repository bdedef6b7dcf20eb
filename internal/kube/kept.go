package kube

import (
	"slices"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead-lb/fairlead/lb"
)

// stub is what the speaker's cache holds in the place of a Service or an EndpointSlice, as the object itself takes several times the
// memory of what is made of it.
type stub struct {
	namespace, name, version string
	uid                      types.UID // of a Service
}

// GetObjectMeta is for the cache, which asks for the name and the version of what it holds.
func (k *stub) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: k.namespace, Name: k.name, ResourceVersion: k.version, UID: k.uid}
}

func stubOf(o metav1.Object) stub {
	return stub{namespace: intern(o.GetNamespace()), name: o.GetName(), version: o.GetResourceVersion()}
}

// keptService is a Service.
type keptService struct {
	stub
	ours, forwarded bool
	// noun is the Service as the facts have it, but for the labels of its Namespace, until the record takes it into a list of its own.
	noun atomic.Pointer[lb.Service]
}

func (k *keptService) key() lb.ServiceKey { return lb.ServiceKey{Namespace: k.namespace, Name: k.name} }

// keepService is a transform of caches; what it has made it leaves as it is.
func (o Options) keepService(in any) (any, error) {
	s, ok := in.(*corev1.Service)
	if !ok {
		return in, nil
	}
	k := &keptService{stub: stubOf(s), ours: o.Ours(s), forwarded: o.Full && Forwarded(s)}
	k.uid = s.UID
	var svc lb.Service
	switch {
	case k.ours:
		svc, _ = Service(s, nil) // the controller reports what cannot be read
	case k.forwarded:
		svc = served(s)
	default:
		return k, nil
	}
	if o.Full {
		reach(s, &svc)
	}
	svc.Key = k.key()
	k.noun.Store(&svc)
	return k, nil
}

// keptSlice is an EndpointSlice.
type keptSlice struct {
	stub
	service lb.ServiceKey // zero if it belongs to none
	part
}

// keepSlice is a transform of caches; what it has made it leaves as it is.
func keepSlice(in any) (any, error) {
	s, ok := in.(*discoveryv1.EndpointSlice)
	if !ok {
		return in, nil
	}
	k := &keptSlice{stub: stubOf(s), part: partOf(s)}
	if key, ok := ServiceOf(s); ok {
		k.service = lb.ServiceKey{Namespace: k.namespace, Name: key.Name}
	}
	return k, nil
}

// endpointsOfKept is [Endpoints] of all slices of one Service.
func endpointsOfKept(group []*keptSlice) ([]lb.Endpoint, lb.Refusal) {
	parts := make([]part, 0, len(group))
	for _, s := range group {
		parts = append(parts, s.part)
	}
	return join(parts)
}

// best returns the endpoints sorted, and of several records of one address behind one port the one that counts. It writes to the list.
func best(list []lb.Endpoint) []lb.Endpoint {
	of := func(e lb.Endpoint) lb.Endpoint {
		return lb.Endpoint{PortName: e.PortName, Protocol: e.Protocol, Addr: e.Addr}
	}
	slices.SortFunc(list, func(a, b lb.Endpoint) int {
		switch d := of(a).Compare(of(b)); {
		case d != 0:
			return d
		case better(a, b):
			return -1
		case better(b, a):
			return 1
		}
		return 0
	})
	return slices.Clone(slices.CompactFunc(list, func(a, b lb.Endpoint) bool { return of(a) == of(b) })) // of its own size: it stays
}
