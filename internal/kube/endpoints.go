package kube

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
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

// maxRecords is how many records, each one endpoint behind one port, are kept of a Service. A single slice that the API server accepts may
// make twenty million: 1,000 endpoints and 20,000 ports.
const maxRecords = 200_000

// part is what one slice contributes to the endpoints of its Service.
type part struct {
	endpoints []lb.Endpoint // sorted, each once
	left      int           // how many records it does not have, as they were too many
}

// Endpoints converts all slices of one Service into its endpoints, sorted. Of several records of one address behind one
// port, that which is not terminating counts, then that which is ready (S7). Where there are more than maxRecords it says so, and has those of
// the first ports by name, whoever converts them.
func Endpoints(slicesOfService []*discoveryv1.EndpointSlice) ([]lb.Endpoint, lb.Refusal) {
	parts := make([]part, 0, len(slicesOfService))
	for _, slice := range slicesOfService {
		parts = append(parts, partOf(slice))
	}
	return join(parts)
}

// join makes one list of those of all slices.
func join(parts []part) ([]lb.Endpoint, lb.Refusal) {
	lists := make([][]lb.Endpoint, 0, len(parts))
	n, left := 0, 0
	for _, p := range parts {
		lists = append(lists, p.endpoints)
		n, left = n+len(p.endpoints), left+p.left
	}
	var out []lb.Endpoint
	if len(lists) == 1 {
		out = lists[0]
	} else {
		bound(lists, n)
		all := slices.Concat(lists...)
		n, left = len(all), left+n-len(all)
		out = best(all)
	}
	if left == 0 {
		return out, lb.Refusal{}
	}
	return out, lb.Refusal{Reason: lb.TooManyEndpoints, Message: fmt.Sprintf("its endpoints times its ports are %d, of which %d are used, those of the first ports by name; "+
		"split the Service", left+n, n)}
}

// bound shortens the lists, which are sorted and have n records, to maxRecords in all: to those of the first ports. Of a port that alone has
// more, each list keeps as many.
func bound(lists [][]lb.Endpoint, n int) {
	if n <= maxRecords {
		return
	}
	counts := map[lb.Port]int{}
	for _, list := range lists {
		for i := range list {
			counts[lb.Port{Name: list[i].PortName, Protocol: list[i].Protocol}]++
		}
	}
	ports := slices.SortedFunc(maps.Keys(counts), comparePorts)
	first, sum := 0, counts[ports[0]] // the first port that is too much
	for sum <= maxRecords {
		first++
		sum += counts[ports[first]]
	}
	for i, list := range lists {
		keep, _ := slices.BinarySearchFunc(list, ports[first], func(e lb.Endpoint, p lb.Port) int {
			return comparePorts(lb.Port{Name: e.PortName, Protocol: e.Protocol}, p)
		})
		if first == 0 {
			keep = min(len(lb.OfPort(list, ports[0])), maxRecords/len(lists))
		}
		lists[i] = list[:keep]
	}
}

// comparePorts orders as [lb.Endpoint.Compare] does.
func comparePorts(a, b lb.Port) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(string(a.Protocol), string(b.Protocol)), cmp.Compare(a.Port, b.Port))
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

// partOf is the product of a slice's endpoints and ports.
func partOf(slice *discoveryv1.EndpointSlice) part {
	endpoints, ports := endpointsOf(slice), portsOf(slice)
	left := 0
	if n := len(endpoints) * len(ports); n > maxRecords {
		slices.SortFunc(ports, comparePorts)
		ports = ports[:maxRecords/len(endpoints)]
		left = n - len(endpoints)*len(ports)
	}
	if len(endpoints)*len(ports) == 0 {
		return part{left: left}
	}
	out := make([]lb.Endpoint, 0, len(endpoints)*len(ports))
	for _, e := range endpoints {
		for _, p := range ports {
			e.PortName, e.Protocol, e.Addr = p.Name, p.Protocol, netip.AddrPortFrom(e.Addr.Addr(), p.Port)
			out = append(out, e)
		}
	}
	return part{best(out), left}
}

// endpointsOf returns the slice's endpoints without a port.
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
			Addr:        netip.AddrPortFrom(addr, 0),
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
		out = append(out, record)
	}
	return out
}

// portsOf returns the slice's ports, as far as they can be used.
func portsOf(slice *discoveryv1.EndpointSlice) []lb.Port {
	var out []lb.Port
	for _, p := range slice.Ports {
		if p.Name == nil || p.Port == nil || *p.Port <= 0 || *p.Port > 65535 {
			continue
		}
		port := lb.Port{Name: intern(*p.Name), Protocol: lb.TCP, Port: uint16(*p.Port)}
		if p.Protocol != nil {
			port.Protocol = protocol(*p.Protocol)
		}
		out = append(out, port)
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
