package kube

import (
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

// keptSlice is what the speaker's cache holds in the place of an EndpointSlice, as the object itself takes three times the memory. It
// is never written to.
type keptSlice struct {
	metav1.ObjectMeta               // name, namespace and version only
	service           lb.ServiceKey // zero if it belongs to none
	endpoints         []lb.Endpoint // sorted, each once
}

// keepSlice is a transform of caches; what it has made it leaves as it is.
func keepSlice(in any) (any, error) {
	s, ok := in.(*discoveryv1.EndpointSlice)
	if !ok {
		return in, nil
	}
	k := &keptSlice{ObjectMeta: metav1.ObjectMeta{Namespace: intern(s.Namespace), Name: s.Name, ResourceVersion: s.ResourceVersion},
		endpoints: best(endpointsOf(s))}
	if key, ok := ServiceOf(s); ok {
		k.service = lb.ServiceKey{Namespace: k.Namespace, Name: key.Name}
	}
	return k, nil
}

// endpointsOfKept is [Endpoints] of all slices of one Service.
func endpointsOfKept(group []*keptSlice) []lb.Endpoint {
	if len(group) == 1 {
		return group[0].endpoints
	}
	var all []lb.Endpoint
	for _, s := range group {
		all = append(all, s.endpoints...)
	}
	return best(all)
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
	return slices.Clip(slices.CompactFunc(list, func(a, b lb.Endpoint) bool { return of(a) == of(b) }))
}
