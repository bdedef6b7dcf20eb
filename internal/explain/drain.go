package explain

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/lb"
)

// Move is what becomes of one address when a node is drained. What is announced by BGP only is announced by the other nodes
// already, and does not move.
type Move struct {
	Address     netip.Addr  `json:"address"`
	Services    []string    `json:"services"`
	From        lb.NodeName `json:"from"`
	To          lb.NodeName `json:"to,omitempty"` // "" = nobody
	Reason      lb.Reason   `json:"reason,omitempty"`
	Message     string      `json:"message,omitempty"` // why nobody
	Connections int         `json:"connections"`       // through the node now, as far as its kernel counts them
}

// Loss is a Service that has pods on the node.
type Loss struct {
	Service string `json:"service"`
	Here    int    `json:"here"`  // ready endpoints on the node
	Total   int    `json:"total"` // ready endpoints
}

// Evacuation is what a drain would do.
type Evacuation struct {
	Node   lb.NodeName `json:"node"`
	Moves  []Move      `json:"moves"`
	Losses []Loss      `json:"losses"`
}

// Drain says what would happen if the node were drained: its pods evicted, its speaker stopped. Replacements of the pods are
// not awaited.
func (f *Facts) Drain(node lb.NodeName) (Evacuation, error) {
	out := Evacuation{Node: node}
	if _, known := f.Kube.Nodes[node]; !known {
		return out, fmt.Errorf("planning without %s: there is no such Node", node)
	}
	now, ok := f.snapshot()
	if !ok {
		return out, fmt.Errorf("planning without %s: no speaker has answered", node)
	}
	held := map[netip.Addr]bool{}
	for _, d := range announce.Plan(now) {
		held[d.VIP] = held[d.VIP] || d.Via == announce.L2 && d.Owner == node
	}
	for _, d := range announce.Plan(without(now, node)) {
		if !held[d.VIP] || d.Via != announce.L2 {
			continue
		}
		m := Move{Address: d.VIP, From: node, To: d.Owner, Connections: f.connections(node, d.VIP)}
		for _, key := range d.Services {
			m.Services = append(m.Services, key.String())
		}
		if d.Owner == "" {
			m.Reason, m.Message = d.Reason, d.Message
		}
		out.Moves = append(out.Moves, m)
	}
	for _, s := range f.Kube.Services {
		l := Loss{Service: s.Key.String()}
		for _, e := range f.Kube.Endpoints.Of(s.Key) {
			if e.Ready {
				l.Total++
			}
			if e.Ready && e.Node == node {
				l.Here++
			}
		}
		if l.Here > 0 {
			out.Losses = append(out.Losses, l)
		}
	}
	return out, nil
}

// snapshot puts together what a speaker knows, from what the speakers say. It reports false if none has answered.
func (f *Facts) snapshot() (lb.Snapshot, bool) {
	nodes := f.answered()
	if len(nodes) == 0 {
		return lb.Snapshot{}, false
	}
	s := lb.Snapshot{Self: nodes[0], Services: f.Kube.Services, Endpoints: f.Kube.Endpoints, Nodes: f.Kube.Nodes, Pools: f.Kube.Pools, L2: f.Kube.L2}
	for _, m := range f.members() {
		member := lb.Member{Node: m.Node, Draining: m.Draining, Ready: m.Ready, Failing: m.Failing, Claims: f.claims(m.Node)}
		for i, l := range m.Links {
			member.Links = append(member.Links, lb.Link{Name: l.Name, Index: i + 1, Up: l.Up, Prefixes: l.Prefixes})
		}
		s.Members = append(s.Members, member)
	}
	return s, true
}

// claims is what the speaker of a node says it announces.
func (f *Facts) claims(node lb.NodeName) []lb.Claim {
	var out []lb.Claim
	for _, d := range f.Speakers[node].Decisions.Decisions {
		if d.Epoch > 0 {
			out = append(out, lb.Claim{Addr: d.VIP, Epoch: d.Epoch})
		}
	}
	slices.SortFunc(out, func(a, b lb.Claim) int { return a.Addr.Compare(b.Addr) })
	return out
}

// without returns the snapshot after the drain, as another node sees it.
func without(s lb.Snapshot, node lb.NodeName) lb.Snapshot {
	s.Members = slices.DeleteFunc(slices.Clone(s.Members), func(m lb.Member) bool { return m.Node == node })
	if s.Self == node && len(s.Members) > 0 {
		s.Self = s.Members[0].Node
	}
	s.Nodes = maps.Clone(s.Nodes)
	delete(s.Nodes, node)
	left := map[lb.ServiceKey][]lb.Endpoint{}
	for key, endpoints := range s.Endpoints.All() {
		left[key] = slices.DeleteFunc(slices.Clone(endpoints), func(e lb.Endpoint) bool { return e.Node == node })
	}
	s.Endpoints = lb.EndpointsOf(left)
	return s
}

// connections is how many connections to addr the node carries.
func (f *Facts) connections(node lb.NodeName, addr netip.Addr) int {
	n := 0
	for _, srv := range f.Speakers[node].Datapath.Servers {
		if !listensAt(srv, addr) {
			continue
		}
		for _, d := range srv.Destinations {
			n += d.Conns
		}
	}
	return n
}
