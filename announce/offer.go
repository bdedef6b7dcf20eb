package announce

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// standing is what speaks against a node whatever the address.
type standing struct {
	refusal lb.Refusal
	soft    bool // it is somebody's wish: the node could still serve
}

func stand(s lb.Snapshot, m lb.Member) standing {
	hard := func(reason lb.Reason, format string, args ...any) standing {
		return standing{lb.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}, false}
	}
	soft := func(reason lb.Reason, format string, args ...any) standing {
		return standing{lb.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}, true}
	}
	node, known := s.Nodes[m.Node]
	switch {
	case !known:
		return hard(lb.NodeUnavailable, "the API server knows no node %s", m.Node)
	case node.NetworkUnavailable:
		return hard(lb.NodeUnavailable, "node %s has the condition NetworkUnavailable", m.Node)
	case s.Down[m.Node] && m.Node != s.Self: // whether we ourselves are the ones that are lost is told by the others' claims
		return hard(lb.NodeDown, "the heartbeats of %s no longer reach %s", m.Node, watchersOf(s, m.Node))
	case !m.Ready:
		return hard(lb.DatapathNotReady, "the datapath of %s does not work", m.Node)
	case m.Draining:
		return soft(lb.NodeDraining, "the speaker on %s is shutting down", m.Node)
	case node.Deleting:
		return soft(lb.NodeUnavailable, "node %s is being deleted", m.Node)
	case node.Excluded:
		return soft(lb.NodeExcluded, "node %s has the label node.kubernetes.io/exclude-from-external-load-balancers", m.Node)
	case node.Cordoned && s.LeaveOnCordon:
		return soft(lb.NodeCordoned, "node %s is cordoned and the speakers run with --on-cordon=leave; kubectl uncordon %s brings it back", m.Node, m.Node)
	}
	return standing{}
}

// watchersOf names the members that no longer hear node, for people.
func watchersOf(s lb.Snapshot, node lb.NodeName) string {
	var out []lb.NodeName
	for _, m := range s.Members {
		if slices.Contains(m.Suspects, node) {
			out = append(out, m.Node)
		}
	}
	return list(out)
}

// place is what one node can do for the addresses of a field.
type place struct {
	reason     lb.Reason // why it cannot announce them: NodeNotSelected or NoInterface; "" = it can
	interfaces []string  // where it would announce; where NodeNotSelected, where it might if the nodeSelectors were not
	ads        []int     // the advertisements that let it, by their place in s.L2
	score      int       // sum of the weights of their preferences that the node matches
}

func (p *poll) place(vip netip.Addr, ads []int, m lb.Member) place {
	var out place
	node := p.Nodes[m.Node]
	for _, i := range ads {
		if lb.MatchesAny(p.L2[i].NodeSelectors, node.Labels) {
			out.ads = append(out.ads, i)
			out.score += score(p.L2[i], node)
		}
	}
	if len(out.ads) == 0 {
		out.reason = lb.NodeNotSelected
		out.interfaces = p.usableLinks(vip, ads, m.Links)
		return out
	}
	out.interfaces = p.usableLinks(vip, out.ads, m.Links)
	if len(out.interfaces) == 0 {
		out.reason = lb.NoInterface
	}
	return out
}

// usableLinks returns the links that the advertisements name, and where one of them names none, the first link, by name, of each
// other segment: a second answer on the same segment would only confuse it.
func (p *poll) usableLinks(vip netip.Addr, ads []int, links []lb.Link) []string {
	anywhere := slices.ContainsFunc(ads, func(i int) bool { return len(p.L2[i].Interfaces) == 0 })
	var out []string
	var served []netip.Prefix
	take := func(ok func(l lb.Link) bool) {
		for _, l := range links {
			if l.Up && l.Holds(vip) && ok(l) {
				out = append(out, l.Name)
				served = append(served, l.Subnet(vip))
			}
		}
	}
	named := func(l lb.Link) bool {
		return slices.ContainsFunc(ads, func(i int) bool { return slices.Contains(p.L2[i].Interfaces, l.Name) })
	}
	take(named)
	if anywhere {
		take(func(l lb.Link) bool { return !named(l) && !slices.Contains(served, l.Subnet(vip)) })
		slices.Sort(out)
	}
	return out
}

// announcing returns where this node answers for vip and still could.
func (p *poll) announcing(vip netip.Addr) []string {
	var out []string
	for _, l := range p.Links {
		if l.Up && l.Holds(vip) && slices.Contains(p.Announced[vip], l.Name) {
			out = append(out, l.Name)
		}
	}
	return out
}

func score(ad lb.L2Advertisement, node lb.Node) int {
	sum := 0
	for _, p := range ad.Preferred {
		if p.Selector.Matches(node.Labels) {
			sum += p.Weight
		}
	}
	return sum
}

// offer is what one node can do for one address.
type offer struct {
	refusal    lb.Refusal // why the node is no candidate at all; without a sentence where lacking has it
	soft       bool       // the refusal is somebody's wish: the node could still serve
	node       lb.NodeName
	serves     int       // how many of the voters it can serve
	lacks      lb.Reason // why it cannot serve the first of the others, if any
	lacksFor   int       // which of the voters that is
	interfaces []string  // where it would announce, sorted
	leaving    []string  // where it could go on for a while: it, or the interface, is no longer selected, or its last endpoints terminate
	score      int
}

func (p *poll) offer(member int, b ballot) offer {
	o := offer{node: p.members[member].Node, refusal: p.standings[member].refusal, soft: p.standings[member].soft}
	if r := p.failed(member, b); !r.OK() && (o.refusal.OK() || o.soft) {
		o.refusal, o.soft = r, false
	}
	if !o.refusal.OK() && !o.soft {
		return o
	}
	var ads []int
	for i, v := range b.voters {
		at := v.field.places[member]
		reason := at.reason
		if reason == "" && !v.servedOn(o.node) {
			reason = lb.NoLocalEndpoint
		}
		if reason == lb.NodeNotSelected && v.servedOn(o.node) || reason == lb.NoLocalEndpoint && o.node == p.Self && p.terminating(v.svc) {
			o.leaving = merge(o.leaving, at.interfaces)
		}
		if reason == lb.NoInterface && o.node == p.Self && v.servedOn(o.node) {
			o.leaving = merge(o.leaving, p.announcing(b.vip))
		}
		if reason != "" {
			if o.lacks == "" {
				o.lacks, o.lacksFor = reason, i
			}
			continue
		}
		o.serves++
		o.interfaces = merge(o.interfaces, at.interfaces)
		if len(b.voters) == 1 {
			o.score = at.score
			continue
		}
		for _, ad := range at.ads { // one that covers several of the Services counts once
			if !slices.Contains(ads, ad) {
				ads = append(ads, ad)
				o.score += score(p.L2[ad], p.Nodes[o.node])
			}
		}
	}
	if o.serves == 0 && o.refusal.OK() {
		o.refusal.Reason = o.lacks // the sentence is seldom wanted; see lacking
	}
	return o
}

// failed says why the node cannot forward the address although it tried. The others know that of a node, only it itself knows why.
func (p *poll) failed(member int, b ballot) lb.Refusal {
	m := p.members[member]
	if r, _ := p.forwarder(b); !r.OK() && m.Node == p.Self {
		return r
	}
	if _, failed := slices.BinarySearchFunc(m.Failing, b.vip, netip.Addr.Compare); failed {
		return lb.Refusal{Reason: lb.NotProgrammed, Message: fmt.Sprintf("the datapath of %s could not program the address", m.Node)}
	}
	return lb.Refusal{}
}

// lacking says why the node cannot serve one of the voters; the zero Refusal if it can serve them all.
func (o offer) lacking(p *poll, b ballot) lb.Refusal {
	r := lb.Refusal{Reason: o.lacks}
	if o.lacks == "" {
		return r
	}
	svc := b.voters[o.lacksFor].svc.Key
	switch o.lacks {
	case lb.NodeNotSelected:
		r.Message = fmt.Sprintf("the nodeSelectors of no L2Advertisement for %s match node %s", svc, o.node)
	case lb.NoInterface:
		r.Message = fmt.Sprintf("%s has no interface that is up, allowed, and in a subnet with %s", o.node, b.vip)
	case lb.NoLocalEndpoint:
		r.Message = fmt.Sprintf("externalTrafficPolicy of %s is Local and %s has no ready endpoint", svc, o.node)
	}
	return r
}

// mayHold reports whether the node could go on serving although it is no longer a candidate.
func (o offer) mayHold() bool {
	reason := o.refusal.Reason
	going := reason == lb.NodeNotSelected || reason == lb.NoInterface || reason == lb.NoLocalEndpoint
	return (o.refusal.OK() || o.soft || going) && len(o.holds()) > 0
}

// holds is where the node would go on.
func (o offer) holds() []string {
	if o.serves > 0 {
		return o.interfaces
	}
	return o.leaving
}

// merge returns the union of two sorted lists, without writing to either.
func merge(a, b []string) []string {
	if len(a) == 0 {
		return b
	}
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}
