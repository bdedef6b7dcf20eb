package explain

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

// Session is one BGP session, as the speaker of its node reports it.
type Session struct {
	Node lb.NodeName `json:"node"`
	v1beta1.BGPSession
}

// Up reports whether the session is established.
func (s Session) Up() bool { return s.State == established }

// Sessions returns the BGP sessions of all nodes, sorted by node and peer.
func (f *Facts) Sessions() []Session {
	out := []Session{}
	for _, node := range slices.Sorted(maps.Keys(f.Statuses)) {
		for _, s := range f.sessions(node) {
			out = append(out, Session{node, s})
		}
	}
	slices.SortStableFunc(out, func(a, b Session) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), strings.Compare(a.Peer, b.Peer))
	})
	return out
}

// Placement is an address and where it is announced.
type Placement struct {
	Address  netip.Addr    `json:"address"`
	Services []string      `json:"services"`
	Pool     string        `json:"pool"`
	Layer2   lb.NodeName   `json:"layer2,omitempty"` // the node that announces it at layer 2
	BGP      []lb.NodeName `json:"bgp,omitempty"`    // the nodes that tell a router of it
	Why      lb.Refusal    `json:"why"`              // why nobody announces it; zero while somebody does, or no speaker has said anything
}

// Silent reports whether the speakers have said that they do not announce the address.
func (p Placement) Silent() bool { return !p.Why.OK() }

// Announced reports whether any node announces the address.
func (p Placement) Announced() bool { return p.Layer2 != "" || len(p.BGP) > 0 }

// Placements returns all addresses of Services, sorted.
func (f *Facts) Placements() []Placement {
	by := map[netip.Addr]*Placement{}
	for _, s := range f.Kube.Services {
		for _, addr := range s.Addrs() {
			if by[addr] == nil {
				by[addr] = &Placement{Address: addr, Pool: f.poolOf(addr)}
			}
			by[addr].Services = append(by[addr].Services, s.Key.String())
		}
	}
	for _, node := range f.answered() {
		for _, d := range f.Speakers[node].Decisions.Decisions {
			if p := by[d.VIP]; p != nil {
				p.add(node, d)
			}
		}
	}
	out := make([]Placement, 0, len(by))
	for _, addr := range slices.SortedFunc(maps.Keys(by), netip.Addr.Compare) {
		p := by[addr]
		if p.Announced() {
			p.Why = lb.Refusal{}
		}
		out = append(out, *p)
	}
	return out
}

// add takes one speaker's decision in. Of the reasons of those that do not announce, that another was elected says least.
func (p *Placement) add(node lb.NodeName, d view.Decision) {
	switch {
	case d.Announce && d.Via == string(announce.BGP):
		p.BGP = append(p.BGP, node)
	case d.Announce:
		p.Layer2 = node
	case p.Why.OK() || p.Why.Reason == lb.NotOwner:
		p.Why = lb.Refusal{Reason: d.Reason, Message: d.Message}
	}
}

// Change is that a node began to announce an address, or ended.
type Change struct {
	Node lb.NodeName `json:"node"`
	view.Change
}

// Changes returns what the speakers remember of the last changes, the newest first, at most limit of them.
func (f *Facts) Changes(limit int) []Change {
	out := []Change{}
	for _, node := range f.answered() {
		for _, c := range f.Speakers[node].Decisions.Changes {
			out = append(out, Change{node, c})
		}
	}
	slices.SortStableFunc(out, func(a, b Change) int { return b.At.Compare(a.At) })
	return out[:min(limit, len(out))]
}
