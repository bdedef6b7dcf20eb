package explain

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/lb"
)

// Overview is an installation at a glance.
type Overview struct {
	Controller []Pod       `json:"controller"`
	Nodes      []NodeState `json:"nodes"`
	Pools      []PoolState `json:"pools"`
	Services   int         `json:"services"` // Fairlead's
	Pending    int         `json:"pending"`  // those of them without an address
	Problems   []string    `json:"problems"` // none = all is well
}

// NodeState is one node and its speaker.
type NodeState struct {
	Node      lb.NodeName `json:"node"`
	State     string      `json:"state"` // ready, not ready, draining, silent, none
	Engine    string      `json:"engine,omitempty"`
	Announced int         `json:"announced"` // addresses, at layer 2
	Members   int         `json:"members"`   // speakers that it knows
	BGP       string      `json:"bgp,omitempty"`
}

// PoolState is one pool and its use.
type PoolState struct {
	Name        string `json:"name"`
	Assigned    int64  `json:"assigned"`
	Available   int64  `json:"available"`
	DaysLeft    *int32 `json:"daysLeft,omitempty"` // the smaller one of the families
	Services    int    `json:"services"`           // that have addresses of it
	Overlapping bool   `json:"overlapping"`
}

// Overview says how the installation is and what is wrong.
func (f *Facts) Overview() Overview {
	out := Overview{Controller: f.Controller, Services: len(f.Kube.Services), Problems: []string{}}
	ready := slices.ContainsFunc(f.Controller, func(p Pod) bool { return p.Ready })
	if !ready {
		out.problem("no pod of the controller is ready: no Service gets an address; see `kubectl get pods -n %s`", f.Namespace)
	}
	for _, node := range slices.Sorted(maps.Keys(f.Kube.Nodes)) {
		n := f.nodeState(node)
		out.Nodes = append(out.Nodes, n)
		switch n.State {
		case "silent":
			out.problem("%s: the speaker did not answer: %s", node, f.Speakers[node].Error)
		case "not ready":
			out.problem("%s: the speaker is not ready; see its log: kubectl logs -n %s %s", node, f.Namespace, f.Speakers[node].Pod)
		case "none":
			out.problem("%s: no speaker runs; see `kubectl get daemonset -n %s`", node, f.Namespace)
		}
		if s := f.Statuses[node].Status; s.Problem != "" {
			out.problem("%s: %s: %s", node, s.Problem, s.Message)
		}
	}
	f.poolStates(&out)
	where := map[netip.Addr]Placement{}
	for _, p := range f.Placements() {
		where[p.Address] = p
	}
	for _, s := range f.Kube.Services {
		if len(s.Ingress) == 0 {
			out.Pending++
			reason := "the controller has said nothing about it"
			if c := f.Services[s.Key].Condition; c != nil {
				reason = c.Reason + ": " + c.Message
			}
			out.problem("Service %s has no address: %s", s.Key, reason)
		}
		for _, addr := range s.Addrs() {
			if p := where[addr]; p.Silent() {
				out.problem("Service %s: nobody announces %s: %s; see `kubectl fairlead explain svc %s`", s.Key, addr, p.Why, s.Key)
			}
		}
	}
	return out
}

func (o *Overview) problem(format string, args ...any) {
	o.Problems = append(o.Problems, fmt.Sprintf(format, args...))
}

func (f *Facts) nodeState(node lb.NodeName) NodeState {
	s, runs := f.Speakers[node]
	n := NodeState{Node: node, State: "none"}
	if b := f.Statuses[node].Status.BGP; b != nil {
		n.BGP = b.Summary
	}
	if !runs {
		return n
	}
	n.Engine, n.Members = cmp.Or(s.Datapath.Engine, f.Statuses[node].Status.Datapath.Engine), len(s.Decisions.Members)
	for _, d := range s.Decisions.Decisions {
		if d.Announce && d.Via == string(announce.L2) {
			n.Announced++
		}
	}
	switch {
	case s.Error != "":
		n.State = "silent"
	case s.Decisions.Draining:
		n.State = "draining"
	case !s.Decisions.Ready:
		n.State = "not ready"
	default:
		n.State = "ready"
	}
	return n
}

func (f *Facts) poolStates(out *Overview) {
	if len(f.Pools) == 0 {
		out.problem("there is no IPAddressPool: no Service gets an address; create one")
	}
	for _, p := range f.Pools {
		s := PoolState{Name: p.Name, Assigned: p.Status.AssignedIPv4 + p.Status.AssignedIPv6,
			Available: max(p.Status.AvailableIPv4, p.Status.AvailableIPv6, p.Status.AvailableIPv4+p.Status.AvailableIPv6)} // the sum may be too large
		for _, days := range []*int32{p.Status.DaysLeftIPv4, p.Status.DaysLeftIPv6} {
			if days != nil && (s.DaysLeft == nil || *days < *s.DaysLeft) {
				s.DaysLeft = days
			}
		}
		for _, svc := range f.Kube.Services {
			if slices.ContainsFunc(svc.Addrs(), func(a netip.Addr) bool { return f.poolOf(a) == p.Name }) {
				s.Services++
			}
		}
		for _, kind := range []string{"Exhausted", "NearlyFull", "Overlapping"} {
			if c := meta.FindStatusCondition(p.Status.Conditions, kind); c != nil && c.Status == "True" {
				s.Overlapping = s.Overlapping || kind == "Overlapping"
				out.problem("IPAddressPool %s: %s: %s", p.Name, c.Reason, c.Message)
			}
		}
		if c := meta.FindStatusCondition(p.Status.Conditions, "Ready"); c != nil && c.Status == "False" {
			out.problem("IPAddressPool %s: %s: %s", p.Name, c.Reason, c.Message)
		}
		out.Pools = append(out.Pools, s)
	}
}
