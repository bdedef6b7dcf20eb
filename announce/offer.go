package announce

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// offer is what one node can do for one address.
type offer struct {
	refusal    lb.Refusal // why the node is no candidate at all
	soft       bool       // the refusal is somebody's wish: the node could still serve
	serves     int        // how many of the voters it can serve
	lacking    lb.Refusal // why it cannot serve the first of the others, if any
	interfaces []string   // where it would announce, sorted
	score      int        // sum of the matching preferences' weights
}

// mayHold reports whether the node could go on serving although it is no longer a candidate.
func (o offer) mayHold() bool { return o.serves > 0 && (o.refusal.OK() || o.soft) }

func makeOffer(s lb.Snapshot, vip netip.Addr, voters []voter, m lb.Member) offer {
	var o offer
	o.refusal, o.soft = refuseNode(s, vip, m)
	if !o.refusal.OK() && !o.soft {
		return o
	}
	links := m.Links
	if m.Node == s.Self {
		links = s.Links // fresher than what we last told the others
	}
	scored := map[string]bool{}
	for _, v := range voters {
		ads, interfaces, refusal := v.servedBy(vip, s.Nodes[m.Node], links)
		if !refusal.OK() {
			if o.lacking.OK() {
				o.lacking = refusal
			}
			continue
		}
		o.serves++
		o.interfaces = append(o.interfaces, interfaces...)
		for _, ad := range ads {
			if !scored[ad.Name] {
				scored[ad.Name] = true
				o.score += score(ad, s.Nodes[m.Node])
			}
		}
	}
	slices.Sort(o.interfaces)
	o.interfaces = slices.Compact(o.interfaces)
	if o.serves == 0 && o.refusal.OK() {
		o.refusal = o.lacking
	}
	return o
}

// refuseNode says what speaks against the node whatever the Services want, and whether that is only a wish.
func refuseNode(s lb.Snapshot, vip netip.Addr, m lb.Member) (r lb.Refusal, soft bool) {
	node, known := s.Nodes[m.Node]
	switch {
	case !known:
		return lb.Refusal{Reason: lb.NodeUnavailable, Message: fmt.Sprintf("the API server knows no node %s", m.Node)}, false
	case node.NetworkUnavailable:
		return lb.Refusal{Reason: lb.NodeUnavailable, Message: fmt.Sprintf("node %s has the condition NetworkUnavailable", m.Node)}, false
	case s.Down[m.Node] && m.Node != s.Self: // whether we ourselves are the ones that are lost is told by the others' claims
		return lb.Refusal{Reason: lb.NodeDown, Message: fmt.Sprintf("the heartbeats of %s no longer reach %s", m.Node, watchersOf(s, m.Node))}, false
	case !m.Ready:
		return lb.Refusal{Reason: lb.DatapathNotReady, Message: fmt.Sprintf("the datapath of %s does not work", m.Node)}, false
	case slices.Contains(m.Failing, vip):
		return lb.Refusal{Reason: lb.NotProgrammed, Message: fmt.Sprintf("the datapath of %s could not program the address", m.Node)}, false
	case m.Draining:
		return lb.Refusal{Reason: lb.NodeDraining, Message: fmt.Sprintf("the speaker on %s is shutting down", m.Node)}, true
	case node.Deleting:
		return lb.Refusal{Reason: lb.NodeUnavailable, Message: fmt.Sprintf("node %s is being deleted", m.Node)}, true
	case node.Excluded:
		return lb.Refusal{Reason: lb.NodeExcluded,
			Message: fmt.Sprintf("node %s has the label node.kubernetes.io/exclude-from-external-load-balancers", m.Node)}, true
	}
	return lb.Refusal{}, false
}

// watchersOf names the members that no longer hear node, for people.
func watchersOf(s lb.Snapshot, node lb.NodeName) string {
	var out []string
	for _, m := range s.Members {
		if slices.Contains(m.Suspects, node) {
			out = append(out, string(m.Node))
		}
	}
	return strings.Join(out, ", ")
}

// servedBy says through which advertisements and interfaces node can serve the Service, or why it cannot.
func (v voter) servedBy(vip netip.Addr, node lb.Node, links []lb.Link) ([]lb.L2Advertisement, []string, lb.Refusal) {
	var ads []lb.L2Advertisement
	for _, ad := range v.ads {
		if lb.MatchesAny(ad.NodeSelectors, node.Labels) {
			ads = append(ads, ad)
		}
	}
	if len(ads) == 0 {
		return nil, nil, lb.Refusal{Reason: lb.NodeNotSelected,
			Message: fmt.Sprintf("the nodeSelectors of no L2Advertisement for %s match node %s", v.svc.Key, node.Name)}
	}
	interfaces := usableLinks(vip, ads, links)
	if len(interfaces) == 0 {
		return nil, nil, lb.Refusal{Reason: lb.NoInterface,
			Message: fmt.Sprintf("%s has no interface that is up, allowed, and in a subnet with %s", node.Name, vip)}
	}
	if !v.localOn(node.Name) {
		return nil, nil, lb.Refusal{Reason: lb.NoLocalEndpoint,
			Message: fmt.Sprintf("externalTrafficPolicy of %s is Local and %s has no ready endpoint", v.svc.Key, node.Name)}
	}
	return ads, interfaces, lb.Refusal{}
}

// localOn reports whether externalTrafficPolicy lets node serve the Service. While no endpoint is ready anywhere, those that
// still serve while they terminate will do, as they do for the datapath.
func (v voter) localOn(node lb.NodeName) bool {
	switch {
	case v.svc.ExternalTrafficPolicy != lb.Local:
		return true
	case slices.ContainsFunc(v.endpoints, func(e lb.Endpoint) bool { return e.Ready }):
		return lb.HasReadyOn(v.endpoints, node)
	}
	return len(lb.Usable(v.endpoints, lb.Local, node)) > 0
}

func usableLinks(vip netip.Addr, ads []lb.L2Advertisement, links []lb.Link) []string {
	var out []string
	for _, l := range links {
		allowed := slices.ContainsFunc(ads, func(ad lb.L2Advertisement) bool {
			return len(ad.Interfaces) == 0 || slices.Contains(ad.Interfaces, l.Name)
		})
		if l.Up && allowed && l.Holds(vip) {
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
