package kube

import (
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

// ServiceOf returns the Service that a slice belongs to, whoever manages the slice (S4); false where it names none.
func ServiceOf(slice *discoveryv1.EndpointSlice) (lb.ServiceKey, bool) {
	name := slice.Labels[discoveryv1.LabelServiceName]
	_, headless := slice.Labels[corev1.IsHeadlessService]
	return lb.ServiceKey{Namespace: slice.Namespace, Name: name}, name != "" && !headless
}

// Endpoints converts all slices of one Service into its endpoints, sorted. Of several records of one address behind one
// port, that which is not terminating counts, then that which is ready (S7).
func Endpoints(slicesOfService []*discoveryv1.EndpointSlice) []lb.Endpoint {
	var all []lb.Endpoint
	for _, slice := range slicesOfService {
		all = append(all, endpointsOf(slice)...)
	}
	return best(all)
}

// better reports whether a replaces b, a record of the same address. It is a strict order, so that the slices may come in
// any order.
func better(a, b lb.Endpoint) bool {
	switch {
	case a.Terminating != b.Terminating:
		return !a.Terminating
	case a.Ready != b.Ready:
		return a.Ready
	case a.Serving != b.Serving:
		return a.Serving
	}
	return a.Node > b.Node // one that names a node is worth more than one that does not
}

// endpointsOf is the product of a slice's endpoints and ports.
func endpointsOf(slice *discoveryv1.EndpointSlice) []lb.Endpoint {
	var out []lb.Endpoint
	for _, e := range slice.Endpoints {
		if len(e.Addresses) == 0 {
			continue
		}
		addr, ok := parseSloppy(e.Addresses[0])
		if !ok || lb.FamilyOf(addr).String() != string(slice.AddressType) {
			continue
		}
		ready := e.Conditions.Ready == nil || *e.Conditions.Ready
		record := lb.Endpoint{
			Ready:       ready,
			Serving:     e.Conditions.Serving == nil && ready || e.Conditions.Serving != nil && *e.Conditions.Serving,
			Terminating: e.Conditions.Terminating != nil && *e.Conditions.Terminating,
		}
		if e.NodeName != nil {
			record.Node = lb.NodeName(intern(*e.NodeName))
		}
		if e.Hints != nil {
			record.ForZones, record.ForNodes = hints(e.Hints)
		}
		for _, p := range slice.Ports {
			if p.Name == nil || p.Port == nil || *p.Port <= 0 || *p.Port > 65535 {
				continue
			}
			record.PortName, record.Protocol = intern(*p.Name), lb.TCP
			if p.Protocol != nil {
				record.Protocol = protocol(*p.Protocol)
			}
			record.Addr = netip.AddrPortFrom(addr, uint16(*p.Port))
			out = append(out, record)
		}
	}
	return out
}

// hints returns the names in an endpoint's hints, separated by commas, which no name contains.
func hints(h *discoveryv1.EndpointHints) (zones, nodes string) {
	var z, n []string
	for _, zone := range h.ForZones {
		z = append(z, zone.Name)
	}
	for _, node := range h.ForNodes {
		n = append(n, node.Name)
	}
	return intern(strings.Join(z, ",")), intern(strings.Join(n, ","))
}
