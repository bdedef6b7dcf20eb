package tunnel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// Refusals returns the nodes to which nothing may be tunnelled, and why, in words that follow "because". Only a way that is known to be blocked
// counts: what has not been found out yet is no reason to change how connections go. Results are sorted by node; own are this node's
// addresses in its Node object.
func Refusals(results []Result, own []netip.Addr) map[lb.NodeName]lb.Refusal {
	out := map[lb.NodeName]lb.Refusal{}
	for _, r := range results {
		if _, told := out[r.Node]; told {
			continue
		}
		if no := r.refusal(own); !no.OK() {
			out[r.Node] = no
		}
	}
	return out
}

func (r Result) refusal(own []netip.Addr) lb.Refusal {
	protocol := 4
	if r.Host.Is6() {
		protocol = 41
	}
	switch {
	case r.ToHost == Declined || r.ToPod == Declined:
		return lb.Refusal{Reason: lb.TunnelDeclined, Message: fmt.Sprintf("node %s says that it cannot unpack tunnelled packets; its SpeakerStatus says why", r.Node)}
	case r.ToHost == Blocked:
		heard := ""
		if r.Heard {
			heard = ", though its own arrive here"
		}
		return lb.Refusal{Reason: lb.TunnelBlocked, Message: fmt.Sprintf("packets of IP protocol %d to node %s (%s) are not answered%s: let protocols 4 and 41 pass between the nodes, "+
			"in both directions", protocol, r.Node, r.Host, heard)}
	case r.ToPod != Blocked:
		return lb.Refusal{}
	case r.Source.IsValid() && !slices.Contains(own, r.Source):
		return lb.Refusal{Reason: lb.TunnelSource, Message: fmt.Sprintf("packets to pods of node %s, as %s, leave with the source %s, which is no address of this Node: "+
			"have the network plugin route pods without an overlay", r.Node, r.Pod, r.Source)}
	}
	return lb.Refusal{Reason: lb.TunnelBlockedToPods, Message: fmt.Sprintf("packets of IP protocol %d to node %s (%s) are answered, but those to its pod %s are not: "+
		"see that no network policy drops protocols 4 and 41 to pods", protocol, r.Node, r.Host, r.Pod)}
}

// Lacks returns why a node takes no part of itself: its engine is another one than ipvs, or its kernel lacks modules.
func Lacks(engine string, modules []string) lb.Refusal {
	switch {
	case engine != withTunnels:
		return lb.Refusal{Reason: lb.EngineWithoutTunnel, Message: fmt.Sprintf("its engine is %s: set datapath.engine to %s or auto, where the kernel has IPVS", engine, withTunnels)}
	case len(modules) > 0:
		return lb.Refusal{Reason: lb.TunnelModules, Message: fmt.Sprintf("its kernel lacks %s: install the package with the kernel's further modules", strings.Join(modules, ", "))}
	}
	return lb.Refusal{}
}

// withTunnels is the engine that has them.
const withTunnels = "ipvs"
