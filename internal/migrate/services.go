package migrate

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/manifest"
	"github.com/fairlead-lb/fairlead/lb"
)

// services says what becomes of the Services, and lets pools share addresses across namespaces where Services do.
func (m *migration) services(services []Service) {
	claims := map[netip.Addr][]lb.Service{} // who has an address, or asks for it
	for _, s := range services {
		m.subject = manifest.Title("Service", s.Key.Namespace, s.Key.Name)
		m.service(s)
		for _, addr := range append(s.Addrs(), s.RequestedAddrs...) {
			if !slices.ContainsFunc(claims[addr], func(o lb.Service) bool { return o.Key == s.Key }) {
				claims[addr] = append(claims[addr], s.Service)
			}
		}
	}
	for _, addr := range slices.SortedFunc(maps.Keys(claims), netip.Addr.Compare) {
		m.share(addr, claims[addr])
	}
}

func (m *migration) service(s Service) {
	notes := len(m.result.Notes)
	if !s.Refusal.OK() {
		m.note(Refused, "metadata.annotations", "%s", s.Refusal)
	}
	if s.Class != "" && s.Class != m.options.Class {
		m.note(Changed, "spec.loadBalancerClass", "is %q, which cannot be changed in a Service: a step has Fairlead serve this class", s.Class)
	}
	if len(m.pools()) > 0 {
		for _, addr := range s.Addrs() {
			if m.poolOf(addr) == nil {
				m.note(Refused, "status.loadBalancer.ingress", "has %s, which is in no pool that was converted: add it to one, or the Service keeps it without a pool that would give it again", addr)
			}
		}
	}
	if s.RequestedPool != "" && !slices.ContainsFunc(m.pools(), func(p *v1beta1.IPAddressPool) bool { return p.Name == s.RequestedPool }) && len(m.pools()) > 0 {
		m.note(Refused, "metadata.annotations", "ask for the pool %q, which is none of those that were converted: correct the annotation address-pool", s.RequestedPool)
	}
	if len(m.result.Notes) == notes {
		m.note(Taken, "", "MetalLB's annotations are read as they are")
	}
}

// share lets a pool share addr across namespaces if Services of several have it or ask for it.
func (m *migration) share(addr netip.Addr, services []lb.Service) {
	var namespaces, titles []string
	for _, s := range services {
		namespaces, titles = append(namespaces, s.Key.Namespace), append(titles, s.Key.String())
	}
	slices.Sort(namespaces)
	pool := m.poolOf(addr)
	if len(slices.Compact(namespaces)) < 2 || pool == nil || pool.Spec.AllowCrossNamespaceSharing {
		return
	}
	pool.Spec.AllowCrossNamespaceSharing = true
	slices.Sort(titles)
	m.subject = m.taken[manifest.Title("IPAddressPool", "", pool.Name)]
	m.note(Changed, "spec.allowCrossNamespaceSharing", "is set: Services of several namespaces share %s: %s; without it a key counts within one namespace", addr, strings.Join(titles, ", "))
}

func (m *migration) pools() []*v1beta1.IPAddressPool {
	var out []*v1beta1.IPAddressPool
	for _, o := range m.result.Objects {
		if p, ok := o.(*v1beta1.IPAddressPool); ok {
			out = append(out, p)
		}
	}
	return out
}

func (m *migration) poolOf(addr netip.Addr) *v1beta1.IPAddressPool {
	for _, p := range m.pools() {
		for _, entry := range p.Spec.Addresses {
			if from, to, err := v1beta1.ParseAddresses(entry); err == nil && (lb.Range{From: from, To: to}).Contains(addr) {
				return p
			}
		}
	}
	return nil
}
