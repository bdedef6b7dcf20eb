package healthnodeport

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"github.com/fairlead-lb/fairlead/lb"
)

// Key is one listening socket of a Service.
type Key struct {
	Service lb.ServiceKey
	Addr    netip.AddrPort // normally the unspecified address of a family, which takes the connections of that family only
}

// Check is what is known about the Service for that socket.
type Check struct {
	// Endpoints is how many distinct addresses ready endpoints on this node have, of the socket's family if the Service has it; 0 as long as
	// the kernel forwards nothing to them.
	Endpoints int
}

// Desired returns the sockets that s.Self must have, and what they answer: one for each family of each Service with a health check
// node port, ours or not (H1), on the unspecified address or, where addrs is not empty, on those of its addresses that are of the family
// (H2). A Service of one family is answered for at the node's addresses of the other one as well, unlike by kube-proxy: who polls nodes,
// as Kubernetes' own end-to-end suite does, does not ask for the families of Services. A Service without endpoints has its sockets too.
// The endpoints of all ports count together, terminating ones do not count (H4). Where somebody else is the node's kube-proxy there
// are none (H15).
//
// Served says whether the kernel forwards what comes to a Service from outside, in a family; of one for which it does not, no endpoint counts,
// as whoever is told otherwise sends connections that end here. It is asked only about Services with ready endpoints on this node.
func Desired(s lb.Snapshot, addrs []netip.Addr, served func(*lb.Service, lb.Family) bool) map[Key]Check {
	out := map[Key]Check{}
	if !s.Forwarding.Full {
		return out
	}
	for _, services := range [][]lb.Service{s.Services, s.Others} {
		for i := range services {
			svc := &services[i]
			if svc.HealthCheckNodePort == 0 || svc.ExternalTrafficPolicy != lb.Local {
				continue
			}
			for _, family := range []lb.Family{lb.IPv4, lb.IPv6} {
				counted, answered := countedAt(*svc, family, s.Addrs)
				if !answered {
					continue
				}
				check := Check{localEndpoints(*svc, s.Endpoints.Of(svc.Key), counted, s.Self)}
				if check.Endpoints > 0 && !served(svc, counted) {
					check.Endpoints = 0
				}
				for _, addr := range listenOn(addrs, family) {
					out[Key{svc.Key, netip.AddrPortFrom(addr, svc.HealthCheckNodePort)}] = check
				}
			}
		}
	}
	return out
}

// countedAt returns the family whose endpoints count at the sockets of a family, and whether there are such sockets: those of a family that
// the Service does not have are for nodes that have addresses of it.
func countedAt(svc lb.Service, at lb.Family, node []netip.Addr) (lb.Family, bool) {
	if slices.Contains(svc.Families, at) {
		return at, true
	}
	reachable := slices.ContainsFunc(node, func(a netip.Addr) bool { return lb.FamilyOf(a) == at && a.IsGlobalUnicast() })
	if len(svc.Families) == 0 || !reachable {
		return 0, false
	}
	return svc.Families[0], true
}

func localEndpoints(svc lb.Service, endpoints []lb.Endpoint, family lb.Family, self lb.NodeName) int {
	seen := map[netip.Addr]bool{}
	for _, port := range svc.Ports {
		for _, e := range lb.OfPort(endpoints, port) {
			if e.Ready && e.Node == self && lb.FamilyOf(e.Addr.Addr()) == family {
				seen[e.Addr.Addr()] = true
			}
		}
	}
	return len(seen)
}

// listenOn returns the addresses of the family, the unspecified one if addrs has none of it: what a list without a family means (S40).
func listenOn(addrs []netip.Addr, family lb.Family) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if lb.FamilyOf(a) == family {
			out = append(out, a)
		}
	}
	switch {
	case len(out) > 0:
		return out
	case family == lb.IPv6:
		return []netip.Addr{netip.IPv6Unspecified()}
	}
	return []netip.Addr{netip.IPv4Unspecified()}
}

// Response is what a socket answers to every request, whatever its method and path (H3).
type Response struct {
	Status int // 200 or 503
	Header http.Header
	Body   string
}

// Answer returns the response for a Service (H3 to H6): 200 while this node forwards to endpoints of its own and its datapath keeps up. Whether the node
// is about to be deleted does not count (H8).
func Answer(svc lb.ServiceKey, c Check, healthy bool) Response {
	r := Response{Status: http.StatusServiceUnavailable, Header: http.Header{
		"Content-Type":                     {"application/json"},
		"X-Content-Type-Options":           {"nosniff"},
		"X-Load-Balancing-Endpoint-Weight": {strconv.Itoa(c.Endpoints)},
	}}
	if c.Endpoints > 0 && healthy {
		r.Status = http.StatusOK
	}
	// Kubernetes' names need no escaping in JSON beyond what %q does.
	r.Body = fmt.Sprintf("{\n\t\"service\": {\n\t\t\"namespace\": %q,\n\t\t\"name\": %q\n\t},\n\t\"localEndpoints\": %d,\n\t\"serviceProxyHealthy\": %v\n}",
		svc.Namespace, svc.Name, c.Endpoints, healthy)
	return r
}
