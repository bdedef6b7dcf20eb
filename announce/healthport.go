package announce

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// HealthPorts returns the health check node ports whose answers on this node [Plan] wants to know, as HealthChecks of the next
// snapshots: those of the Services with externalTrafficPolicy Local that it could announce. Where Fairlead itself forwards
// there is nobody to ask, and with policy Cluster there is no such port.
func HealthPorts(s lb.Snapshot) map[lb.ServiceKey]uint16 {
	if s.Forwards {
		return nil
	}
	out := map[lb.ServiceKey]uint16{}
	p := &poll{Snapshot: s}
	for i := range s.Services {
		svc := &s.Services[i]
		if len(svc.Ingress) == 0 || svc.HealthCheckNodePort == 0 {
			continue
		}
		if nodes, _ := p.serving(svc); among(nodes, s.Self) {
			out[svc.Key] = svc.HealthCheckNodePort
		}
	}
	return out
}

// Unserved returns the addresses of the Services for which a forwarder has answered that it cannot serve them, sorted: what the
// other nodes must know (lb.Member.Failing).
func Unserved(services []lb.Service, checks map[lb.ServiceKey]lb.HealthCheck) []netip.Addr {
	var out []netip.Addr
	for _, svc := range services {
		if c, asked := checks[svc.Key]; asked && !c.OK {
			out = append(out, svc.Addrs()...)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// forwarder says why whoever forwards here cannot serve one of the voters, and names the port of one for which that is not
// known yet, 0 if there is none.
func (p *poll) forwarder(b ballot) (refusal lb.Refusal, unasked uint16) {
	if p.Forwards {
		return lb.Refusal{}, 0
	}
	for _, v := range b.voters {
		port := v.svc.HealthCheckNodePort
		if port == 0 || !among(v.nodes, p.Self) {
			continue
		}
		switch c, asked := p.HealthChecks[v.svc.Key]; {
		case !asked:
			unasked = port
		case !c.OK:
			return lb.Refusal{Reason: lb.ForwarderNotReady, Message: fmt.Sprintf(
				"kube-proxy or Cilium, which forwards on %s, does not say that it can serve %s: healthCheckNodePort %d %s", p.Self, v.svc.Key, port, c.Why)}, 0
		}
	}
	return lb.Refusal{}, unasked
}
